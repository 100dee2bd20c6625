"""`model: auto` and `arrow(…)`: what is chosen, by which scores, and that it is what is served."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
from adaptkit_server import adaptkit_server

from adaptkit import Workspace
from adaptkit.errors import BadReference, Refused
from adaptkit.extend import Moment
from adaptkit.serving.composition import parse
from adaptkit.serving.routing import WITHIN, Density, Profile, choose, route_of, unmeasured

KEY, TEAM_KEY = "a-key-that-may-ask-everything", "a-key-of-the-medical-team"
FOREIGN = "Zz?!#~{}[]<>^$"
DATA = {
    "naval": [f"hull {n}% shield {n * 3 % 97}%" for n in range(10, 40)],
    "medic": [f"quiet joy {a}{b}" for a in "vwxyz" for b in "aeiouy"],
}


@pytest.fixture(scope="module")
def home(fleet, served_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routing")
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for name in ("naval", "cargo", "medic"):
            ws.add(fleet.adapters[name], name, base=str(served_base))
        for name, prompts in DATA.items():
            file = folder / f"{name}.jsonl"
            rows = [json.dumps({"prompt": text, "completion": "ok"}) for text in prompts[:-4]]
            file.write_text("\n".join(rows))
            ws.calibrate(name, str(served_base), str(file), rows=24)
    (folder / "keys.toml").write_text(f'[keys]\n"{KEY}" = ["*"]\n"{TEAM_KEY}" = ["team"]\n')
    return folder


@pytest.fixture(scope="module")
def ask(home, served_base):
    options = ("--slots", "4", "--keys", str(home / "keys.toml"))
    folder = home / "home" / ".adaptkit"
    with adaptkit_server(folder, served_base, *options, log=home / "log", forked=True) as server:

        def request(model, prompt, *, key=KEY, **more):
            body = {"model": model, "prompt": prompt, "max_tokens": 4, "temperature": 0} | more
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.post(
                f"{server.url}/v1/completions", json=body, headers=headers, timeout=120
            )

        yield request


def test_auto_serves_the_adapter_whose_data_the_prompt_is_like(ask):
    for name, prompts in DATA.items():
        for prompt in prompts[-4:]:  # not among those that were measured
            made = ask("auto", prompt)
            assert made.status_code == 200, made.text
            route = made.json()["adaptkit"]["route"]
            assert route["chosen"] == made.headers["x-adaptkit-version"] == f"{name}@1"
            assert set(route["scores"]) == {"naval@1", "medic@1"}  # cargo was never measured
            assert sum(route["scores"].values()) == pytest.approx(1, abs=1e-3)
            assert made.headers["x-adaptkit-route"].startswith(f"auto; {name}@1=")
            plain = ask(f"{name}@1", prompt)
            assert made.json()["choices"] == plain.json()["choices"]
            assert "adaptkit" not in plain.json()
            assert "x-adaptkit-route" not in plain.headers


def test_a_prompt_that_fits_no_adapter_is_answered_by_the_base(ask):
    made = ask("auto", FOREIGN)
    assert made.status_code == 200, made.text
    route = made.json()["adaptkit"]["route"]
    assert route["chosen"] == made.headers["x-adaptkit-version"] == "base"
    assert made.headers["x-adaptkit-route"].startswith("auto; base; ")
    assert set(route["scores"]) == set(route["distances"]) == {"naval@1", "medic@1"}
    assert min(route["distances"].values()) > WITHIN
    assert made.json()["choices"] == ask("base", FOREIGN).json()["choices"]


def test_a_stream_says_what_was_chosen_as_well(ask):
    made = ask("auto", DATA["medic"][-1], stream=True)
    assert made.headers["x-adaptkit-version"] == "medic@1"
    first = json.loads(made.text.split("\n\n")[0].removeprefix("data: "))
    assert first["adaptkit"]["route"]["chosen"] == "medic@1"


def test_arrow_is_served_with_the_share_of_each_adapter(ask):
    made = ask("arrow(naval, medic, cargo)", "hull 90%")
    assert made.status_code == 200, made.text
    route = made.json()["adaptkit"]["route"]
    assert route["method"] == "arrow"
    assert route["chosen"] == "arrow(naval@1, medic@1, cargo@1)"
    assert made.headers["x-adaptkit-version"] == route["chosen"]
    assert set(route["scores"]) == {"naval@1", "medic@1", "cargo@1"}
    assert min(route["scores"].values()) > 0


def test_a_key_routes_only_among_what_it_may_ask_for(ask):
    made = ask("auto", "hull 90%", key=TEAM_KEY)
    assert made.status_code == 400
    assert "no adapter of this base is registered" in made.json()["error"]["message"]
    assert ask("auto(naval)", "hull 90%", key=TEAM_KEY).status_code == 403
    assert ask("arrow(naval, medic)", "hull 90%", key=TEAM_KEY).status_code == 403


def test_an_adapter_that_was_never_measured_is_named_with_what_measures_it(ask):
    made = ask("auto(cargo)", "hull 90%")
    assert made.status_code == 400
    assert "adaptkit calibrate cargo@1 --base DIR --data FILE" in made.json()["error"]["message"]


def test_weights_are_refused_where_they_are_chosen():
    for text in ("arrow(naval, medic=0.4)", "auto(naval=2)"):
        with pytest.raises(BadReference, match="its weights are chosen for it"):
            parse(text)
    assert str(parse("auto")) == "auto"
    assert str(parse("arrow(naval, medic@2)")) == "arrow(naval, medic@2)"


def test_a_density_is_the_normal_distribution_of_its_moment():
    rng = np.random.default_rng(0)
    factor, diagonal = rng.normal(size=(6, 2)), rng.uniform(0.5, 1, 6)
    density = Density(Moment(diagonal, factor))
    whole = np.diag(diagonal) + factor @ factor.T
    covariance = whole + 0.01 * np.trace(whole) / 6 * np.eye(6)
    x = rng.normal(size=(5, 6))
    squares = np.einsum("ij,jk,ik->i", x, np.linalg.inv(covariance), x).mean()
    expected = -0.5 * (squares + np.linalg.slogdet(covariance)[1]) / 6
    fit = density.of(x)
    assert fit.likely == pytest.approx(expected)
    assert fit.distance == pytest.approx(squares / 6)


def test_adapters_without_a_layer_in_common_are_refused():
    one = Density(Moment(np.ones(2), np.zeros((2, 1))))
    profiles = {"naval@1": Profile({"q": one}), "medic@1": Profile({"v": one})}
    inputs = {"q": np.ones((1, 2)), "v": np.ones((1, 2))}
    with pytest.raises(Refused, match=r"not measured in one and the same layer(?s:.*)arrow\(…\)"):
        choose(profiles, inputs, 1.0)


def test_the_likeliest_that_fits_is_chosen_and_the_base_where_none_does():
    small, large = (Density(Moment(np.full(2, v), np.zeros((2, 1)))) for v in (1.0, 100.0))
    profiles = {"naval@1": Profile({"q": small}), "medic@1": Profile({"q": large})}
    near = {"q": np.full((3, 2), 2.0)}  # a mean square of 4, in the scale of naval's moments
    route = choose(profiles, near, 1.0)
    assert route.chosen == "naval@1" == next(iter(route.scores))
    assert route.distances == pytest.approx({"naval@1": 4 / 1.01, "medic@1": 0.04 / 1.01})
    second = choose(profiles, near, 1.0, within=1.0)  # naval is likelier and does not fit
    assert second.chosen == "medic@1"
    assert second.header().startswith("auto; medic@1; naval@1=0.")
    none = choose(profiles, near, 1.0, within=0.01)
    assert none.chosen == "base"
    assert none.scores == route.scores
    assert none.header().startswith("auto; base; naval@1=0.")
    assert set(none.to_json()["distances"]) == {"naval@1", "medic@1"}
    far = {"q": np.full((1, 2), 1e3)}
    assert choose(profiles, far, 1.0).chosen == "base"
    assert choose(profiles, far, 1.0, within=float("inf")).chosen == "medic@1"


def test_a_route_names_the_largest_share_first():
    route = route_of("auto", "b@1", {"a@1": 0.25, "b@1": 0.75})
    assert route.header() == "auto; b@1=0.7500, a@1=0.2500"
    assert list(route.to_json()["scores"]) == ["b@1", "a@1"]
    assert "adaptkit calibrate a@1" in unmeasured(["a@1"]).fix


def test_the_command_has_the_defaults_of_python():
    from adaptkit.cli.serve import serve
    from adaptkit.workspace.serving.serve import ServeOptions

    options = {option.name: option.default for option in serve.params}
    for name in ("drain", "route_within"):
        assert options[name] == getattr(ServeOptions(), name)
