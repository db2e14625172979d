"""Whether a new contract breaks clients that send rows or read predictions."""


def changes(old: dict, new: dict) -> list[str]:
    """The differences between two contracts that break clients, a phrase for each.

    :param old: what ``Contract.describe`` returned; the same goes for ``new``.
    """
    before, after = ({each["name"]: each for each in one["columns"]} for one in (old, new))
    found = [f"column {name} is gone" for name in before if name not in after]
    for name, column in after.items():
        if name not in before:
            found.append(f"column {name} is required")
        elif reason := narrower(before[name], column):
            found.append(f"column {name} {reason}")
    if (old["key"] or {}).get("name") != (new["key"] or {}).get("name"):
        found.append("the key is another one")
    # Clients must understand every prediction, so the old target must accept the new one's values.
    if old["target"]["name"] != new["target"]["name"] or narrower(new["target"], old["target"]):
        found.append("the prediction takes values that it did not")
    return sorted(found)


def narrower(old: dict, new: dict) -> str:
    """Why the new column may refuse a value that the old one takes; empty if it takes all."""
    if old["type"] != new["type"] and (old["type"], new["type"]) != ("integer", "float"):
        return f"is of type {new['type']}, no longer {old['type']}"
    if old.get("nullable") and not new.get("nullable"):
        return "must not be missing any more"
    if gone := set(old.get("allowed", ())) - set(new.get("allowed", ())):
        return f"no longer takes {', '.join(map(str, sorted(gone)))}"
    if "minimum" in new and ("minimum" not in old or new["minimum"] > old["minimum"]):
        return "has a higher minimum"
    if "maximum" in new and ("maximum" not in old or new["maximum"] < old["maximum"]):
        return "has a lower maximum"
    return ""
