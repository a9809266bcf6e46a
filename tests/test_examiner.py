"""The examiner with a segmenter: what gets masks and what none, what they change, and that nobody waits for them in vain."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from chat import cli
from chat.loading import open_examiner
from chat.settings import read_settings
from chat.ui.words import explain
from finetune.seg_pairs import find_pairs
from vision.evidence import CheckpointError
from vision.examiner import Examiner, load_examiner
from vision.study import Study, read_study

ROOT = Path(__file__).parents[1]
FILM = tiny.film()
GAS = {"gas": (0.3, 0.3, 0.7, 0.6)}


def study(**known: object) -> Study:
    return Study(FILM.convert("RGB"), **known)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lungs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_segmenter(tmp_path_factory.mktemp("lungs"), FILM)


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter that sees the left lung on the right."""
    right, left = tiny.LUNG_FIELDS.values()
    return tiny.build_segmenter(tmp_path_factory.mktemp("swapped"), FILM, {"right lung": left, "left lung": right})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def examiner(classifier: Path, lungs: Path) -> Examiner:
    return load_examiner(classifier, segmenter=lungs)


def test_a_film_gets_both_lungs_and_its_map_is_read_against_them(examiner: Examiner) -> None:
    found = examiner.examine(study())
    assert [mask.label for mask in found.masks] == ["right lung", "left lung"] and found.mask_reason is None
    for region, (left, top, right, bottom) in zip(found.regions, tiny.LUNG_FIELDS.values(), strict=True):
        assert region.box is not None and region.mask.values.shape == (240, 300)
        wanted = (left * 300, top * 240, right * 300, bottom * 240)
        box = (region.box.left, region.box.top, region.box.right, region.box.bottom)
        assert np.abs(np.subtract(box, wanted)).max() < 12
    pointer = found.pointer
    assert pointer and pointer.peak and pointer.inside and 0.3 < pointer.inside < 1
    assert (pointer.peak.side, pointer.peak.zone) == ("right", "middle")


def test_the_result_names_shares_and_boxes_and_centimetres_only_of_a_known_scale(examiner: Examiner) -> None:
    plain, scaled = (examiner.examine(study(spacing=spacing)).result()["masks"] for spacing in (None, (0.5, 0.8)))
    assert isinstance(plain, list) and isinstance(scaled, list) and len(plain) == len(scaled) == 2
    assert [set(mask) for mask in plain] == [{"label", "area", "box"}] * 2
    for mask in scaled:
        assert mask["area_cm2"] == pytest.approx(mask["area"] * 300 * 240 * 0.5 * 0.8 / 100, abs=0.1)
        assert len(mask["box"]) == 4 and all(isinstance(edge, int) for edge in mask["box"])
    assert json.loads(json.dumps(plain)) == plain


def test_what_is_no_film_gets_the_gates_reason_and_costs_no_pass(examiner: Examiner) -> None:
    def never() -> None:
        raise AssertionError("the segmenter was asked")

    guarded = replace(examiner, segmenter=never)  # type: ignore[arg-type]
    found = guarded.examine(Study(tiny.picture(3)))
    assert found.masks == () and found.mask_reason == found.reason == "colour"
    assert replace(guarded, segmenter=None).examine(Study(tiny.picture(3))).mask_reason is None


def test_lungs_that_cannot_be_two_lungs_are_not_shown_and_not_used(classifier: Path, swapped: Path) -> None:
    refused, without = load_examiner(classifier, segmenter=swapped), load_examiner(classifier)
    found, plain = refused.examine(study()), without.examine(study())
    assert found.masks == () and found.mask_reason == "not_two_lungs" and found.result()["masks"] == []
    assert found.findings[0].inside is None and found.pointer and plain.pointer
    assert found.pointer.peak == plain.pointer.peak and plain.mask_reason is None


def test_an_adults_film_gets_its_lungs_too(tmp_path: Path, lungs: Path) -> None:
    found = load_examiner(tiny.build_classifier(tmp_path, population="adult"), segmenter=lungs).examine(study())
    assert found.reason == "adult" and len(found.masks) == 2 and found.pointer is None


def test_other_classes_are_shown_as_they_are_and_change_no_map(classifier: Path, tmp_path: Path) -> None:
    segmenter = tiny.build_segmenter(tmp_path, FILM, GAS | {"nowhere": (0.0, 0.0, 0.0, 0.0)})
    found, plain = load_examiner(classifier, segmenter=segmenter).examine(study()), load_examiner(classifier).examine(study())
    assert [mask.label for mask in found.masks] == ["gas"] and found.mask_reason is None
    assert found.pointer and plain.pointer and found.pointer.peak == plain.pointer.peak and found.pointer.inside is None


def test_a_report_can_name_every_model_that_had_a_part(examiner: Examiner, classifier: Path, lungs: Path) -> None:
    assert [name for name, _ in examiner.weights] == [classifier.name, lungs.name]
    assert len({sha for _, sha in examiner.weights}) == 2 and len(load_examiner(classifier).weights) == 1


@pytest.mark.slow
def test_the_library_behind_the_network_is_not_imported_before_it_is_needed(classifier: Path, lungs: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vision.examiner import load_examiner\n"
        "examiner = load_examiner(Path(sys.argv[1]), segmenter=Path(sys.argv[2])); print('monai' in sys.modules)\n"
        "examiner.warm_up(); print('monai' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(classifier), str(lungs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.slow
def test_a_damaged_segmenter_is_one_sentence_in_both_languages(classifier: Path, lungs: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((lungs / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((lungs / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(CheckpointError) as caught:
        load_examiner(classifier, segmenter=tmp_path)
    assert explain(caught.value, "en") == str(caught.value) and tmp_path.name in explain(caught.value, "ko")
    command = [sys.executable, "app.py", "examine", "README.md", "--language", "ko", "--classifier", str(classifier)]
    done = subprocess.run(
        [*command, "--segmenter", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert explain(caught.value, "ko") in done.stderr and "finetune.segmenter" in done.stderr


def test_a_segmenter_that_is_not_there_is_said(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no segmenter at nowhere"):
        load_examiner(classifier, segmenter=tmp_path / "nowhere")


def test_a_network_that_turns_out_to_be_another_is_said_at_the_first_film(
    classifier: Path, lungs: Path, tmp_path: Path
) -> None:
    plan = json.loads((lungs / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**plan, "channels": [8, 16]}))
    (tmp_path / "model.safetensors").write_bytes((lungs / "model.safetensors").read_bytes())
    examiner = load_examiner(classifier, segmenter=tmp_path)
    examiner.warm_up()
    with pytest.raises(CheckpointError, match="of another kind"):
        examiner.examine(study())


def test_the_terminal_prints_masks_and_tables_them(
    examiner: Examiner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FILM.save(tmp_path / "film.png")
    table = tmp_path / "table.csv"
    assert cli.examine(examiner, [tmp_path / "film.png"], 10**6, True, table) == 0
    said = json.loads(capsys.readouterr().out)
    assert [mask["label"] for mask in said["masks"]] == ["right lung", "left lung"] and said["mask_reason"] is None
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["masks"]) == said["masks"] and row["mask_reason"] == ""


def test_a_person_may_do_without_masks_or_bring_a_segmenter(classifier: Path, lungs: Path) -> None:
    def opened(segmenter: object) -> Examiner:
        chosen = {"classifier": str(classifier), "segmenter": str(segmenter)}
        found = open_examiner(read_settings(chosen, Path("/nowhere/.env")))
        assert found is not None
        return found

    assert opened("none").segmented_by is None and opened("none").examine(study()).mask_reason is None
    assert [opened(name).weights[1][0] for name in (lungs, "auto")] == [lungs.name, "unet-lungs"]


@pytest.mark.slow
def test_the_lungs_that_ship_lie_where_people_drew_them(shared_data: Path) -> None:
    examiner = load_examiner(ROOT / "models/resnet34-cxr", segmenter=ROOT / "models/unet-lungs")
    overlaps = []
    for pair in find_pairs(shared_data / "lung_masks")[0][::60]:
        found = examiner.examine(Study(pair.film().convert("RGB")))
        drawn = np.isin(pair.mask, (1, 2))
        if found.masks:
            ours = found.masks[0].values | found.masks[1].values
            overlaps.append((ours & drawn).sum() / (ours | drawn).sum())
    assert len(overlaps) >= 8 and np.median(overlaps) > 0.85
    adult = (shared_data / "dicom" / "cr_chest_monochrome2_8bit_jpeg.dcm").read_bytes()
    found = examiner.examine(read_study(adult))
    assert len(found.masks) == 2 and all(region.area_cm2 for region in found.regions) and "outside_population" in found.notes
