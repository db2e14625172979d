"""Azure DevOps' API as far as ci/forge.py calls it, with what its examples require."""

import base64
from typing import Any

from loopback import TOKEN, Loopback, Refusal, git, need, route

PROJECT = "/acme/Team%20Iris/_apis"
HERE = f"{PROJECT}/git/repositories/iris"
USERS = {"anna@example.com": "1d1dad71", "risk": "3b3db741", "carol@example.com": "5c5dc751"}
REVIEWERS = ("anna@example.com", "risk")
KINDS = {
    "fa4e907d-c16b-4a4c-9dfa-4906e5d171dd": {"minimumApproverCount", "creatorVoteCounts"},
    "0609b952-1397-4640-95ec-e00a01b2c241": {"buildDefinitionId"},
    "fa4e907d-c16b-4a4c-9dfa-4916e5d171ab": set(),
    "c6a1889d-b943-4856-b76f-9e46bb6b0df2": set(),
    "fd2167ab-b0be-447a-8ec8-39368250530e": {"requiredReviewerIds"},
}
APPROVAL, TASK = "8c6f20a7-a545-4486-9777-f762fafe0d4d", "fe1de3ee-a436-41b4-bb20-f6eb4cb879a7"
HOST = "dev.azure.com"
ORIGINS = {
    f"https://acme@{HOST}/acme/Team%20Iris/_git/iris": (
        "https://dev.azure.com/acme",
        "https://dev.azure.com/acme/Team%20Iris",
        "iris",
    ),
    f"git@ssh.{HOST}:v3/acme/Team%20Iris/iris": (
        "https://dev.azure.com/acme",
        "https://dev.azure.com/acme/Team%20Iris",
        "iris",
    ),
    "https://acme.visualstudio.com/Iris/_git/iris": (
        "https://acme.visualstudio.com",
        "https://acme.visualstudio.com/Iris",
        "iris",
    ),
}


def where(forge: Any) -> tuple[str, str, str]:
    return forge.place()


class Forge(Loopback):
    REPOSITORY, USER, VARIABLE = "/iris.git", "pipeline", "SYSTEM_ACCESSTOKEN"
    PROD = "/pipelines/checks/configurations"

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.pulls: list[dict] = []
        self.policies: list[dict] = []
        self.environments: list[dict] = []
        self.checks: list[dict] = []

    def variables(self) -> dict[str, str]:
        return {
            "SYSTEM_COLLECTIONURI": f"{self.url}/acme/",
            "SYSTEM_TEAMPROJECT": "Team Iris",
            "BUILD_REPOSITORY_ID": "iris",
            "SYSTEM_ACCESSTOKEN": TOKEN,
            "AZURE_DEVOPS_EXT_PAT": "",
        }

    def authorized(self, headers) -> bool:
        kind, _, told = headers.get("Authorization", "").partition(" ")
        return kind == "Basic" and base64.b64decode(told).decode().partition(":")[2] == TOKEN

    def answer(self, method, target, headers, body):
        if self.authorized(headers) and "api-version=7.1" not in target:
            raise Refusal(400, "No api-version was supplied")
        return super().answer(method, target, headers, body)

    def changes(self) -> list[dict]:
        """What is open, as the tests of all providers see it."""
        return [
            {
                "branch": each["sourceRefName"].removeprefix("refs/heads/"),
                "title": each["title"],
                "body": each["description"],
            }
            for each in self.pulls
        ]

    def facts(self) -> dict:
        """What is protected, likewise."""
        kinds = {each["type"]["id"]: each["settings"] for each in self.policies}
        reviews, build, merging, _, owners = (kinds[kind] for kind in KINDS)
        places = [place for each in kinds.values() for place in each["scope"]]
        checks = {(each["resource"]["name"], each["type"]["id"]): each for each in self.checks}
        approval = checks["prod", APPROVAL]["settings"]
        branches = [checks[name, TASK]["settings"]["inputs"] for name in ("nonprod", "prod")]
        names = {number: name for name, number in USERS.items()}
        blocking = all(each["isBlocking"] and each["isEnabled"] for each in self.policies)
        return {
            "branch": all(place["refName"] == "refs/heads/main" for place in places)
            and all(each["allowedBranches"] == "refs/heads/main" for each in branches),
            "nobody pushes": blocking,
            "no force": blocking,
            "linear": "allowNoFastForward" not in merging and merging["allowSquash"],
            "green": build["buildDefinitionId"] == 5 and build["validDuration"] == 0,
            "reviewed": reviews["minimumApproverCount"] >= 1,
            "owners": any("contract.py" in path for path in owners["filenamePatterns"]),
            "stale": reviews["resetOnSourcePush"],
            "not by oneself": approval["requesterCannotBeApprover"]
            and not reviews["creatorVoteCounts"],
            "reviewers": sorted(names[each["id"]] for each in approval["approvers"]),
            "environments": sorted(each["name"] for each in self.environments),
        }

    def objects(self) -> int:
        return len(self.policies) + len(self.environments) + len(self.checks)

    @route("GET", HERE)
    def repository(self, query, body):
        return {"id": "c0ffee00", "name": "iris", "webUrl": f"{self.url}/acme/_git/iris"}

    @route("GET", f"{HERE}/pullrequests")
    def list_pulls(self, query, body):
        assert query["searchCriteria.status"] == "active"
        ends = ("sourceRefName", "targetRefName")
        found = [
            each
            for each in self.pulls
            if all(each[key] == query[f"searchCriteria.{key}"] for key in ends)
        ]
        return {"value": found}

    @route("POST", f"{HERE}/pullrequests")
    def open_pull(self, query, body):
        need(body, "sourceRefName", "targetRefName", "title")
        known = [each["sourceRefName"] for each in self.pulls]
        if not self.named(body["sourceRefName"]) or body["sourceRefName"] in known:
            raise Refusal(409, "TF401179: An active pull request already exists")
        self.pulls.append(self.described(body) | {"pullRequestId": next(self.numbers)})
        return self.pulls[-1]

    @route("PATCH", f"{HERE}/pullrequests/(\\d+)")
    def renew_pull(self, number, query, body):
        [pull] = [each for each in self.pulls if each["pullRequestId"] == int(number)]
        pull.update(self.described(body))
        return pull

    def described(self, body):
        if len(body["description"]) > 4000:
            raise Refusal(400, "The description is too long")
        return body

    @route("GET", f"{HERE}/refs")
    def refs(self, query, body):
        listed = git(self.bare, "for-each-ref", f"refs/{query['filter']}*", "--format=%(refname)")
        names = listed.split()
        found = [{"name": name, "objectId": "0" * 40} for name in names]
        return {"value": [each | {"peeledObjectId": self.named(each["name"])} for each in found]}

    @route("POST", f"{HERE}/annotatedtags")
    def make_tag(self, query, body):
        need(body, "name", "message", "taggedObject")
        words = ("-a", "-m", body["message"], body["name"], body["taggedObject"]["objectId"])
        git(self.bare, "tag", *words)
        return body

    @route("GET", f"{PROJECT}/policy/configurations")
    def list_policies(self, query, body):
        kind = query["policyType"]
        return {"value": [each for each in self.policies if each["type"]["id"] == kind]}

    @route("POST", f"{PROJECT}/policy/configurations")
    def make_policy(self, query, body):
        self.policies.append(self.policy(body) | {"id": next(self.numbers)})
        return body

    @route("PUT", f"{PROJECT}/policy/configurations/(\\d+)")
    def change_policy(self, number, query, body):
        [there] = [each for each in self.policies if each["id"] == int(number)]
        there.update(self.policy(body))
        return there

    def policy(self, body):
        need(body, "isEnabled", "isBlocking", "type", "settings")
        need(body["settings"], "scope", *KINDS[body["type"]["id"]])
        assert body["settings"]["scope"][0]["repositoryId"] == "c0ffee00"
        return body

    @route("GET", f"{PROJECT}/build/definitions")
    def definitions(self, query, body):
        assert query["repositoryType"] == "TfsGit"
        found = query["yamlFilename"] == ".azuredevops/change.yml"
        return {"value": [{"id": 5, "name": "Change"}] if found else []}

    @route("GET", f"{PROJECT}/distributedtask/environments")
    def list_environments(self, query, body):
        return {"value": [each for each in self.environments if each["name"] == query["name"]]}

    @route("POST", f"{PROJECT}/distributedtask/environments")
    def make_environment(self, query, body):
        self.environments.append(need(body, "name") | {"id": next(self.numbers)})
        return self.environments[-1]

    @route("GET", f"{PROJECT}/pipelines/checks/configurations")
    def list_checks(self, query, body):
        assert query["resourceType"] == "environment"
        found = [each for each in self.checks if each["resource"]["id"] == query["resourceId"]]
        return {"value": found}

    @route("POST", f"{PROJECT}/pipelines/checks/configurations")
    def make_check(self, query, body):
        need(body, "type", "settings", "resource")
        self.checks.append(body | {"id": next(self.numbers)})
        return body

    @route("PATCH", f"{PROJECT}/pipelines/checks/configurations/(\\d+)")
    def change_check(self, number, query, body):
        [there] = [each for each in self.checks if each["id"] == int(number)]
        there.update(need(body, "type", "settings", "resource"))
        return there

    @route("GET", "/acme/_apis/identities")
    def identities(self, query, body):
        assert query["searchFilter"] == "General"
        name = query["filterValue"]
        return {"value": [{"id": USERS[name]}] if name in USERS else []}
