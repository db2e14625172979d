"""GitLab's API as far as ci/forge.py calls it, with what its documentation requires."""

from typing import Any

from loopback import TOKEN, Loopback, Refusal, git, need, route

HERE = "/api/v4/projects/7"
USERS = {"anna": 11, "ben": 12, "carol": 13}
REVIEWERS = ("anna", "ben")
# What a repository's address says elsewhere than on a runner.
HOST = "gitlab.com"
ORIGINS = {
    f"git@{HOST}:acme/sub/iris.git": "https://gitlab.com/api/v4/projects/acme%2Fsub%2Firis",
    "https://job:password@example.com:8443/acme/iris.git": (
        "https://example.com:8443/api/v4/projects/acme%2Firis"
    ),
}


def where(forge: Any) -> str:
    return forge.project()


class Forge(Loopback):
    REPOSITORY, USER, VARIABLE = "/acme/iris.git", "oauth2", "GITLAB_TOKEN"
    PROD = "/protected_environments"

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.requests: list[dict] = []
        self.releases: dict[str, dict] = {}
        self.settings: dict = {}
        self.approvals: dict = {}
        self.rules: list[dict] = []
        self.environments: list[str] = []
        self.prod: dict | None = None
        # As every new project has it.
        levels = {"push_access_levels": [{"id": 1, "access_level": 40}]}
        levels["merge_access_levels"] = [{"id": 2, "access_level": 40}]
        self.main: dict | None = {"name": "main", "allow_force_push": False, **levels}

    def variables(self) -> dict[str, str]:
        return {
            "CI_API_V4_URL": f"{self.url}/api/v4",
            "CI_PROJECT_ID": "7",
            "GITLAB_TOKEN": TOKEN,
        }

    def authorized(self, headers) -> bool:
        return headers.get("PRIVATE-TOKEN") == TOKEN

    def changes(self) -> list[dict]:
        """What is open, as the tests of all providers see it."""
        return [
            {
                "branch": each["source_branch"],
                "title": each["title"],
                "body": each["description"],
            }
            for each in self.requests
        ]

    def facts(self) -> dict:
        """What is protected, likewise."""
        names = {number: name for name, number in USERS.items()}
        assert self.prod["deploy_access_levels"] == [{"access_level": 40}]
        [rule] = self.rules
        return {
            "branch": self.main["name"] == "main",
            "nobody pushes": [each["access_level"] for each in self.main["push_access_levels"]]
            == [0],
            "no force": not self.main["allow_force_push"],
            "linear": self.settings["merge_method"] == "ff",
            "green": self.settings["only_allow_merge_if_pipeline_succeeds"]
            and not self.settings["allow_merge_on_skipped_pipeline"],
            "reviewed": rule["approvals_required"] >= 1,
            "owners": self.main["code_owner_approval_required"],
            "stale": self.approvals["reset_approvals_on_push"],
            "not by oneself": not self.approvals["merge_requests_author_approval"],
            "reviewers": sorted(names[each["user_id"]] for each in self.prod["approval_rules"]),
            "environments": sorted(self.environments),
        }

    def objects(self) -> int:
        return len(self.rules) + len(self.environments) + len(self.prod["approval_rules"])

    @route("GET", f"{HERE}/merge_requests")
    def list_requests(self, query, body):
        assert query["state"] == "opened"
        ends = ("source_branch", "target_branch")
        return [each for each in self.requests if all(each[key] == query[key] for key in ends)]

    @route("POST", f"{HERE}/merge_requests")
    def open_request(self, query, body):
        need(body, "source_branch", "target_branch", "title")
        known = [each["source_branch"] for each in self.requests]
        if not self.branch(body["source_branch"]) or body["source_branch"] in known:
            raise Refusal(409, "Another open merge request already exists")
        number = next(self.numbers)
        self.requests.append(body | {"iid": number, "web_url": f"{self.url}/-/{number}"})
        return self.requests[-1]

    @route("PUT", f"{HERE}/merge_requests/(\\d+)")
    def renew_request(self, number, query, body):
        [request] = [each for each in self.requests if each["iid"] == int(number)]
        request.update(body)
        return request

    @route("GET", f"{HERE}/repository/tags/(.+)")
    def tag(self, name, query, body):
        found = self.named(f"refs/tags/{name}")
        if not found:
            raise Refusal(404, "404 Tag Not Found")
        return {"name": name, "commit": {"id": found}}

    @route("GET", f"{HERE}/releases/(.+)")
    def get_release(self, tag, query, body):
        if tag not in self.releases:
            raise Refusal(404, "404 Not Found")
        return self.releases[tag]

    @route("POST", f"{HERE}/releases")
    def make_release(self, query, body):
        need(body, "tag_name")
        tag = body["tag_name"]
        if not self.named(f"refs/tags/{tag}"):
            git(self.bare, "update-ref", f"refs/tags/{tag}", need(body, "ref")["ref"])
        self.releases[tag] = body | {"_links": {"self": f"{self.url}/-/releases/{tag}"}}
        return self.releases[tag]

    @route("PUT", HERE)
    def edit(self, query, body):
        self.settings |= body
        return self.settings

    @route("GET", f"{HERE}/protected_branches/main")
    def get_main(self, query, body):
        if not self.main:
            raise Refusal(404, "404 Not found")
        return self.main

    @route("DELETE", f"{HERE}/protected_branches/main")
    def unprotect(self, query, body):
        self.main = None

    @route("POST", f"{HERE}/protected_branches")
    def protect(self, query, body):
        need(body, "name")
        if self.main:
            raise Refusal(409, "Protected branch already exists")
        kinds = ("push", "merge")
        levels = {
            f"{kind}_access_levels": [{"id": next(self.numbers), "access_level": level}]
            for kind in kinds
            if (level := body.pop(f"{kind}_access_level")) in (0, 30, 40, 60)
        }
        self.main = {"code_owner_approval_required": False, **body, **levels}
        return self.main

    @route("PATCH", f"{HERE}/protected_branches/main")
    def change_main(self, query, body):
        self.main |= body
        return self.main

    @route("POST", f"{HERE}/approvals")
    def set_approvals(self, query, body):
        self.approvals = body
        return body

    @route("GET", f"{HERE}/approval_rules")
    def list_rules(self, query, body):
        return self.rules

    @route("POST", f"{HERE}/approval_rules")
    def add_rule(self, query, body):
        need(body, "name", "approvals_required")
        self.rules.append(body | {"id": next(self.numbers)})
        return body

    @route("PUT", f"{HERE}/approval_rules/(\\d+)")
    def change_rule(self, number, query, body):
        need(body, "name", "approvals_required")
        [rule] = [each for each in self.rules if each["id"] == int(number)]
        rule.update(body)
        return rule

    @route("GET", f"{HERE}/environments")
    def list_environments(self, query, body):
        return [{"name": name} for name in self.environments if name == query["name"]]

    @route("POST", f"{HERE}/environments")
    def make_environment(self, query, body):
        self.environments.append(need(body, "name")["name"])
        return body

    @route("GET", f"{HERE}/protected_environments/prod")
    def get_prod(self, query, body):
        if not self.prod:
            raise Refusal(404, "404 Not found")
        return self.prod

    @route("POST", f"{HERE}/protected_environments")
    def protect_prod(self, query, body):
        need(body, "name", "deploy_access_levels")
        rules = [each | {"id": next(self.numbers)} for each in body["approval_rules"]]
        self.prod = body | {"approval_rules": rules}
        return self.prod

    @route("PUT", f"{HERE}/protected_environments/prod")
    def change_prod(self, query, body):
        gone = [each["id"] for each in body["approval_rules"] if each.get("_destroy")]
        new = [each for each in body["approval_rules"] if "id" not in each]
        rules = [each for each in self.prod["approval_rules"] if each["id"] not in gone]
        self.prod["approval_rules"] = rules + [each | {"id": next(self.numbers)} for each in new]
        return self.prod

    @route("GET", "/api/v4/users")
    def users(self, query, body):
        name = query["username"]
        return [{"id": USERS[name]}] if name in USERS else []
