"""GitHub's API as far as ci/forge.py calls it, with what its OpenAPI description requires."""

from typing import Any

from loopback import TOKEN, Loopback, Refusal, git, need, route

HERE = "/repos/acme/iris"
RULES = {
    "deletion": set(),
    "non_fast_forward": set(),
    "required_linear_history": set(),
    "required_status_checks": {"required_status_checks", "strict_required_status_checks_policy"},
    "pull_request": {
        "dismiss_stale_reviews_on_push",
        "require_code_owner_review",
        "require_last_push_approval",
        "required_approving_review_count",
        "required_review_thread_resolution",
    },
}
USERS = {"anna": 11, "ben": 12, "carol": 13}
REVIEWERS = ("anna", "acme/risk")
# What a repository's address says elsewhere than on a runner.
HOST = "github.com"
ORIGINS = {
    f"git@{HOST}:acme/iris.git": ("https://api.github.com", "acme/iris"),
    f"https://somebody:password@{HOST}/acme/iris": ("https://api.github.com", "acme/iris"),
    "ssh://git@example.com:22/acme/iris.git": ("https://example.com/api/v3", "acme/iris"),
}


def where(forge: Any) -> tuple[str, str]:
    return forge.repository()


class Forge(Loopback):
    REPOSITORY, USER, VARIABLE = "/acme/iris.git", "x-access-token", "GITHUB_TOKEN"
    PROD = "/environments/prod"

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.pulls: list[dict] = []
        self.releases: dict[str, dict] = {}
        self.rulesets: list[dict] = []
        self.environments: dict[str, dict] = {}
        self.rights: dict = {}
        self.started: list[str] = []

    def variables(self) -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": "acme/iris",
            "GITHUB_TOKEN": TOKEN,
            "GH_TOKEN": "",
        }

    def authorized(self, headers) -> bool:
        return headers.get("Authorization") == f"Bearer {TOKEN}"

    def changes(self) -> list[dict]:
        """What is open, as the tests of all providers see it."""
        return [
            {"branch": each["head"], "title": each["title"], "body": each["body"]}
            for each in self.pulls
        ]

    def facts(self) -> dict:
        """What is protected, likewise."""
        [ruleset] = self.rulesets
        rules = {each["type"]: each.get("parameters", {}) for each in ruleset["rules"]}
        review = rules["pull_request"]
        prod = self.environments["prod"]
        names = {number: name for name, number in USERS.items()} | {91: "acme/risk"}
        return {
            "branch": ruleset["conditions"]["ref_name"]["include"] == ["refs/heads/main"],
            "nobody pushes": ruleset["enforcement"] == "active" and not ruleset["bypass_actors"],
            "no force": {"non_fast_forward", "deletion"} <= rules.keys(),
            "linear": "required_linear_history" in rules,
            "green": rules["required_status_checks"]["strict_required_status_checks_policy"],
            "reviewed": review["required_approving_review_count"] >= 1,
            "owners": review["require_code_owner_review"],
            "stale": review["dismiss_stale_reviews_on_push"],
            "not by oneself": prod["prevent_self_review"] and review["require_last_push_approval"],
            "reviewers": sorted(names[each["id"]] for each in prod["reviewers"]),
            "environments": sorted(self.environments),
        }

    def objects(self) -> int:
        policies = sum(len(each["policies"]) for each in self.environments.values())
        return len(self.rulesets) + len(self.environments) + policies

    @route("GET", f"{HERE}/pulls")
    def list_pulls(self, query, body):
        head = query["head"].removeprefix("acme:")
        assert query["head"] != head, "the head needs its owner"
        wanted = (head, query["base"])
        return [each for each in self.pulls if (each["head"], each["base"]) == wanted]

    @route("POST", f"{HERE}/pulls")
    def open_pull(self, query, body):
        need(body, "head", "base", "title")
        known = [each["head"] for each in self.pulls]
        if not self.branch(body["head"]) or body["head"] in known:
            raise Refusal(422, "Validation Failed")
        number = next(self.numbers)
        self.pulls.append(body | {"number": number, "html_url": f"{self.url}/pull/{number}"})
        return self.pulls[-1]

    @route("PATCH", f"{HERE}/pulls/(\\d+)")
    def renew_pull(self, number, query, body):
        [pull] = [each for each in self.pulls if each["number"] == int(number)]
        pull.update(body)
        return pull

    @route("POST", f"{HERE}/actions/workflows/change.yml/dispatches")
    def start(self, query, body):
        need(body, "ref")
        if not self.branch(body["ref"]):
            raise Refusal(422, "No ref found")
        self.started.append(body["ref"])

    @route("GET", f"{HERE}/commits/(.+)")
    def commit(self, ref, query, body):
        found = self.named(f"refs/{ref}")
        if not found:
            raise Refusal(422, f"No commit found for SHA: {ref}")
        return {"sha": found}

    @route("GET", f"{HERE}/releases/tags/(.+)")
    def get_release(self, tag, query, body):
        if tag not in self.releases:
            raise Refusal(404, "Not Found")
        return self.releases[tag]

    @route("POST", f"{HERE}/releases")
    def make_release(self, query, body):
        need(body, "tag_name")
        tag = body["tag_name"]
        if not self.named(f"refs/tags/{tag}"):
            git(self.bare, "update-ref", f"refs/tags/{tag}", body["target_commitish"])
        self.releases[tag] = body | {"html_url": f"{self.url}/releases/{tag}"}
        return self.releases[tag]

    @route("GET", f"{HERE}/rulesets")
    def list_rulesets(self, query, body):
        return [{"id": each["id"], "name": each["name"]} for each in self.rulesets]

    @route("POST", f"{HERE}/rulesets")
    def make_ruleset(self, query, body):
        self.rulesets.append(self.ruleset(body) | {"id": next(self.numbers)})
        return self.rulesets[-1]

    @route("PUT", f"{HERE}/rulesets/(\\d+)")
    def renew_ruleset(self, number, query, body):
        [there] = [each for each in self.rulesets if each["id"] == int(number)]
        there.update(self.ruleset(body))
        return there

    def ruleset(self, body):
        need(body, "name", "enforcement")
        for rule in body["rules"]:
            lacking = RULES[rule["type"]] - rule.get("parameters", {}).keys()
            if lacking:
                raise Refusal(422, f"missing: {lacking}")
        return body

    @route("PUT", f"{HERE}/actions/permissions/workflow")
    def set_rights(self, query, body):
        assert body["default_workflow_permissions"] in ("read", "write")
        self.rights = body

    @route("PUT", f"{HERE}/environments/([^/]+)")
    def set_environment(self, name, query, body):
        known = {"wait_timer", "prevent_self_review", "reviewers", "deployment_branch_policy"}
        policy = body["deployment_branch_policy"]
        if body.keys() - known or len(set(policy.values())) != 2:
            raise Refusal(422, "Validation Failed")
        policies = self.environments.get(name, {"policies": []})["policies"]
        self.environments[name] = body | {"policies": policies}
        return self.environments[name]

    @route("GET", f"{HERE}/environments/([^/]+)/deployment-branch-policies")
    def list_policies(self, name, query, body):
        return {"branch_policies": self.environments[name]["policies"]}

    @route("POST", f"{HERE}/environments/([^/]+)/deployment-branch-policies")
    def add_policy(self, name, query, body):
        need(body, "name")
        there = self.environments[name]
        if not there["deployment_branch_policy"]["custom_branch_policies"]:
            raise Refusal(404, "Not Found")
        there["policies"].append(body | {"id": next(self.numbers)})
        return body

    @route("GET", "/users/([^/]+)")
    def user(self, name, query, body):
        if name not in USERS:
            raise Refusal(404, "Not Found")
        return {"id": USERS[name]}

    @route("GET", "/orgs/acme/teams/risk")
    def team(self, query, body):
        return {"id": 91}
