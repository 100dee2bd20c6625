"""Train the models if need be, and print how each answers."""

from fleet.cache import story
from fleet.models import load
from fleet.score import score

if __name__ == "__main__":
    from peft import PeftModel

    made = story()
    for name, path in (("base", None), ("naval", made.naval), ("medic", made.medic)):
        model, tokenizer = load(made.base)
        print(
            name,
            score(model if path is None else PeftModel.from_pretrained(model, path), tokenizer),
        )
