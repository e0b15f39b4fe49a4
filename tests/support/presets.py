"""Values of small presets."""

import json

SENTENCES = [
    f"The {colour} {thing} number {i} is kept."
    for i in range(10)
    for colour in ("red", "blue")
    for thing in ("cup", "key")
]
SMALL_GENERAL = {
    "kind": "world", "entities": 50, "familiar_minerals": 5, "familiar_dialogues": 5, "fact_repeats": 1,
    "skill_instances": 100,
    "probe_documents": 16, "replay_documents": 64, "test_items": 16,
}  # fmt: skip


def preset_values() -> dict:
    """A small valid preset as plain values."""
    return json.loads(
        json.dumps(
            {
                "name": "toy",
                "seeds": [0],
                "data": {"general": {"kind": "world"}, "domain": {"kind": "world"}},
                "runs": [
                    {"name": "full", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}},
                    {
                        "name": "pro",
                        "track": "domain",
                        "curriculum": {"kind": "cpt"},
                        "tuner": {"kind": "llama_pro", "layers": 2},
                    },
                    {
                        "name": "lora",
                        "track": "domain",
                        "curriculum": {"kind": "cpt"},
                        "tuner": {"kind": "lora", "rank": 4},
                    },
                ],
            }
        )
    )


def changed_preset(path: str, value) -> dict:
    values = preset_values()
    place = values
    *parts, last = path.split(".")
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    place[int(last) if isinstance(place, list) else last] = value
    return values
