"""The report: what rules write of any evidence, what is marked, replaced and continued, and how it ends."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import engines
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from remote_server import Bad, Misbehaving, bad_server
from served import free_port

from chat.assistant import Assistant
from chat.engine.address import read_address
from chat.engine.base import EngineUnavailable, Limits, Sampling
from chat.engine.local import LocalEngine
from chat.engine.remote import RemoteEngine
from chat.report.check import check, clean, is_in_language, is_repetitive, split_sentences
from chat.report.particles import with_particles
from chat.report.rules import rule_sentences
from chat.report.words import CONTINUE, NOTICE
from chat.report.write import LEAST, MOST, Report, write_report
from chat.wording import LANGUAGES, SECTIONS, Language, evidence_lines, section_prompt
from finetune.phrasebook import book
from vision.evidence import ITEMS, Evidence, Finding, Heatmap, Peak, Refusal, Side, Zone
from vision.study import Study
from vision.tiling import Box

GREEDY = Sampling(64, temperature=0, seed=7)
STUDY = Study(tiny.picture(1, (80, 60)))
BOX = Box(1, 1, 20, 20)
SICK = Evidence(
    (Finding("PNEUMONIA", 0.87, None, True, Peak("right", "lower", BOX)),),
    ("PNEUMONIA",),
    probabilities={"NORMAL": 0.13, "PNEUMONIA": 0.87},
)
WELL = Evidence((Finding("NORMAL", 0.96),), ("NORMAL",), probabilities={"NORMAL": 0.96, "PNEUMONIA": 0.04})
GOOD: dict[Language, tuple[str, ...]] = {
    "en": (
        "Overall, the film suggests pneumonia. A radiologist has the final word.",
        "Both lungs were compared zone by zone. The map peaks in the right lower lung. It shows attention, not disease.",
        "Compare the film with the symptoms and earlier images. Ask a doctor if doubt remains.",
        "Rotation can make the lungs look hazier. Check the side marker on the film.",
    ),
    "ko": (
        "종합하면 폐렴이 의심됩니다. 최종 판단은 영상의학과 의사가 내립니다.",
        "양쪽 폐를 구역별로 비교했습니다. 지도는 환자의 오른쪽 폐 하부를 가리킵니다. 밝은 곳은 병변의 증거가 아닙니다.",
        "증상과 이전 사진을 함께 확인하세요. 의문이 남으면 의사에게 문의하는 것이 좋습니다.",
        "몸이 돌아가면 폐가 더 뿌옇게 보일 수 있습니다. 좌우 표지를 직접 확인해야 합니다.",
    ),
}

Answers = Callable[[str, int], tuple[str, str]]


def scripted(answers: Answers) -> Callable[[Misbehaving], None]:
    """A model that says `answers(question, number)` to its number-th request: a text, and why it ended."""

    def say(request: Misbehaving) -> None:
        posts = [seen for seen in request.bad.seen if seen.command == "POST"]
        text, finish = answers(asked(request), len(posts) - 1)
        request.begin()
        for piece in re.findall(r"\S+\s*", text):
            request.say(piece)
        request.say(finish=finish)
        request.wfile.write(b"data: [DONE]\n\n")

    return say


def asked(request: Misbehaving) -> str:
    content = request.body["messages"][-1]["content"]  # type: ignore[index]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def in_order(texts: tuple[str, ...], finish: str = "stop") -> Answers:
    return lambda _, number: (texts[number % len(texts)], finish)


def write(server: Bad, evidence: Evidence | None = SICK, language: Language = "en") -> Report:
    *_, last = write_report(remote(server), STUDY, evidence, language, GREEDY)
    return last


def remote(server: Bad) -> Assistant:
    return Assistant(RemoteEngine(server.address, "scripted", "sk-1", Limits(4096, 16, 1)), 336)


def assert_whole(report: Report) -> None:
    assert report.is_finished and tuple(section.name for section in report.sections) == SECTIONS
    assert all(LEAST <= len(section.sentences) <= MOST for section in report.sections)
    assert report.notice == NOTICE[report.language]
    for section in report.sections:
        assert is_in_language([sentence.text for sentence in section.sentences], report.language)


peaks = st.none() | st.builds(Peak, st.sampled_from(get_args(Side)), st.sampled_from(get_args(Zone)), st.just(BOX))
maps = st.none() | st.just(Heatmap("x", np.ones((7, 7), np.float32)))
labels = st.sampled_from(["NORMAL", "PNEUMONIA", "Pleural_Effusion", "Mass", "결절", "CT", "[이/가]{side}", "a. b. c", ""])
chances = st.floats(0, 1) | st.just(float("nan"))
evidences = st.none() | st.builds(
    Evidence,
    findings=st.lists(st.builds(Finding, labels, chances, maps, st.booleans(), peaks), max_size=6).map(tuple),
    labels=st.lists(labels, max_size=6, unique=True).map(tuple),
    notes=st.lists(st.sampled_from(get_args(Refusal)), unique=True).map(tuple),
    probabilities=st.dictionaries(labels, chances, max_size=6),
    items=st.sampled_from([ITEMS, frozenset(), frozenset({"labels"}), frozenset({"map"})]),
)
studies = st.sampled_from([STUDY, Study(Image.new("RGB", (900, 700))), Study(tiny.picture(2, (900, 1200)))])


@given(evidence=evidences, study=studies, language=st.sampled_from(LANGUAGES), section=st.sampled_from(SECTIONS))
def test_rules_write_three_sentences_in_the_right_language_whatever_the_evidence(
    evidence: Evidence | None, study: Study, language: Language, section: str
) -> None:
    said = rule_sentences(section, study, evidence, language)
    assert split_sentences(clean(" ".join(said))) == (list(said), "")
    assert is_in_language(said, language) and not is_repetitive(list(said))
    assert not re.search(r"[{}\[\]_]|None|nan| ,|\s\s", " ".join(said))


@given(
    evidence=st.sampled_from([SICK, WELL, Evidence(notes=("not_a_radiograph",)), Evidence(notes=("outside_population",)), None])
    | st.builds(lambda p: Evidence((Finding("PNEUMONIA", p),), ("NORMAL", "PNEUMONIA")), st.floats(0, 1)),
    language=st.sampled_from(LANGUAGES),
    section=st.sampled_from(SECTIONS),
)
def test_what_rules_write_is_never_marked(evidence: Evidence | None, language: Language, section: str) -> None:
    assert [check(text, evidence, language) for text in rule_sentences(section, STUDY, evidence, language)] == [()] * 3


@pytest.mark.parametrize("side", get_args(Side))
@pytest.mark.parametrize("zone", get_args(Zone))
def test_the_map_is_told_where_it_peaks_and_where_that_is_on_the_picture(side: Side, zone: Zone) -> None:
    evidence = Evidence((Finding("PNEUMONIA", 0.9, None, True, Peak(side, zone, BOX)),), ("PNEUMONIA",))
    told = rule_sentences("looked_at", STUDY, evidence, "en")
    assert f"{zone} part" in told[0] and f"patient's {side} lung" in told[0]
    assert f"on the {'left' if side == 'right' else 'right'} of the picture" in told[2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_share_of_the_map_in_the_lungs_is_told_and_no_other_number(language: Language) -> None:
    finding = Finding("PNEUMONIA", 0.9, None, True, Peak("left", "lower", BOX), inside=0.634)
    evidence = Evidence((finding,), ("PNEUMONIA",), probabilities={"PNEUMONIA": 0.9, "NORMAL": 0.1})
    told = rule_sentences("looked_at", STUDY, evidence, language)
    assert "63%" in told[0] and [check(text, evidence, language) for text in told] == [()] * 3
    assert "number" in check(told[0].replace("63%", "71%"), evidence, language)
    unknown = replace(evidence, findings=(replace(finding, inside=None),))
    assert "%" not in " ".join(rule_sentences("looked_at", STUDY, unknown, language))
    assert "number" in check(told[0], unknown, language)


def test_what_was_refused_or_switched_off_is_not_told() -> None:
    def told(evidence: Evidence) -> str:
        return " ".join(text for section in SECTIONS for text in rule_sentences(section, STUDY, evidence, "en"))

    refused = Evidence(SICK.findings, SICK.labels, notes=("outside_population",), probabilities=SICK.probabilities)
    off = Evidence(SICK.findings, SICK.labels, probabilities=SICK.probabilities, items=frozenset())
    assert "87%" in told(SICK) and "right lung" in told(SICK)
    for evidence in (refused, off):
        assert "%" not in told(evidence) and "right lung" not in told(evidence) and "infection" not in told(evidence)


@pytest.mark.parametrize(
    ("word", "spoken"),
    [
        ("폐렴", "폐렴이 폐렴은 폐렴을 폐렴과 폐렴으로"),
        ("폐렴(pneumonia)", "폐렴(pneumonia)이 폐렴(pneumonia)은 폐렴(pneumonia)을 폐렴(pneumonia)과 폐렴(pneumonia)으로"),
        ("무기폐", "무기폐가 무기폐는 무기폐를 무기폐와 무기폐로"),
        ("결절", "결절이 결절은 결절을 결절과 결절로"),
        ("Effusion", "Effusion이 Effusion은 Effusion을 Effusion과 Effusion으로"),
        ("Nodule", "Nodule이 Nodule은 Nodule을 Nodule과 Nodule로"),
        ("Edema", "Edema가 Edema는 Edema를 Edema와 Edema로"),
        ("CT", "CT가 CT는 CT를 CT와 CT로"),
        ("TNM", "TNM이 TNM은 TNM을 TNM과 TNM으로"),
        ("13", "13이 13은 13을 13과 13으로"),
        ("87%", "87%가 87%는 87%를 87%와 87%로"),
        ("7", "7이 7은 7을 7과 7로"),
    ],
)
def test_korean_particles_follow_from_how_the_word_is_spoken(word: str, spoken: str) -> None:
    asked_for = " ".join(f"{word}[{pair}]" for pair in ("이/가", "은/는", "을/를", "과/와", "으로/로"))
    assert with_particles(asked_for) == spoken


@pytest.mark.parametrize(
    ("text", "evidence", "marks"),
    [
        ("The film suggests pneumonia.", WELL, ("label",)),
        ("폐렴이 의심됩니다.", WELL, ("label",)),
        ("The lungs look clear.", SICK, ("label",)),
        ("뚜렷한 폐렴 소견이 보이지 않습니다.", SICK, ("label",)),
        ("정상이 아니고 폐렴이 의심됩니다.", WELL, ("label",)),
        ("The film is normal without signs of pneumonia.", WELL, ()),
        ("폐야가 맑고 뚜렷한 폐렴 소견이 보이지 않습니다.", WELL, ()),
        ("If pneumonia is suspected, compare with earlier films.", WELL, ()),
        ("No opacity is seen in the left lung.", SICK, ()),
        ("There is haze in the left lung.", SICK, ("side",)),
        ("There is haze on the left side of the image.", SICK, ()),
        ("음영은 왼쪽 폐 상부에 보입니다.", SICK, ("side", "zone")),
        ("양쪽 폐의 오른쪽과 왼쪽을 보았습니다.", SICK, ()),
        ("The map peaks in the right upper lung.", SICK, ("zone",)),
        ("The attention map peaks in the right lower lung.", WELL, ("map",)),
        ("Pneumonia has a probability of 95%.", SICK, ("number",)),
        ("폐렴 확률은 87%입니다.", SICK, ()),
        ("The probability is 80%.", None, ("number",)),
        ("This is definitely pneumonia.", SICK, ("certain",)),
        ("확실히 폐렴입니다.", SICK, ("certain",)),
        ("폐렴이 틀림없습니다.", SICK, ("certain",)),
        ("확실하지 않으므로 의사가 판단해야 합니다.", SICK, ()),
        ("Start treatment with antibiotics.", None, ("treatment",)),
        ("항생제를 복용해야 합니다.", SICK, ("treatment",)),
        ("I cannot recommend treatment.", SICK, ()),
    ],
)
def test_a_sentence_is_marked_for_what_the_evidence_does_not_carry(
    text: str, evidence: Evidence | None, marks: tuple[str, ...]
) -> None:
    assert check(text, evidence, "ko" if re.search("[가-힣]", text) else "en") == marks


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_embedded_model_is_taught_to_say_is_marked_where_it_errs_and_nowhere_else(language: Language) -> None:
    said = book("film", language).answers
    for verdict, right, wrong in (("normal", WELL, SICK), ("pneumonia", SICK, WELL)):
        for text in said[f"section_summary {verdict}"].seen:
            assert check(text, right, language) == () and check(text, wrong, language) == ("label",), text
    for name in ("next first normal", "next first pneumonia", "next last", "quality first", "quality last"):
        for text in said[f"section_{name}"].seen:
            assert check(text, WELL, language) == check(text, SICK, language) == (), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_good_model_writes_all_of_it_with_one_prompt_per_section(language: Language) -> None:
    with bad_server(scripted(in_order(GOOD[language]))) as server:
        report = write(server, language=language)
        posts = [request for request in server.seen if request.command == "POST"]
        assert [asked(request).splitlines()[-1] for request in posts] == [section_prompt(name, language) for name in SECTIONS]
        assert all(line in asked(posts[0]) for line in evidence_lines(SICK, language))
    assert_whole(report)
    assert tuple(section.text for section in report.sections) == GOOD[language]
    assert {(section.mark, s.marks, s.by_rule) for section in report.sections for s in section.sentences} == {(None, (), False)}
    assert (report.written_by, report.trouble, report.seed, report.models) == ("model", None, 7, ("scripted",))


def test_what_contradicts_the_evidence_is_kept_and_marked() -> None:
    texts = ("The film looks normal. This is definitely pneumonia.", *GOOD["en"][1:])
    with bad_server(scripted(in_order(texts))) as server:
        summary = write(server).sections[0]
    assert [(s.text, s.marks) for s in summary.sentences] == [
        ("The film looks normal.", ("label",)),
        ("This is definitely pneumonia.", ("certain",)),
    ]


@pytest.mark.parametrize(
    ("text", "language", "mark"),
    [
        ("", "en", "empty"),
        ("...  !!", "en", "empty"),
        ("The film suggests pneumonia. 더 볼 것이 있습니다.", "en", "wrong_language"),
        ("This is a summary of the film.", "ko", "wrong_language"),
        (
            "Les poumons sont clairs. Il faut comparer avec les images anciennes et les autres clichés du patient.",
            "en",
            "wrong_language",
        ),
        ("the lung the lung the lung the lung the lung the lung the lung the lung the lung.", "en", "repeats"),
        ("폐렴이 의심됩니다. 폐렴이 의심됩니다.", "ko", "repeats"),
    ],
)
def test_a_section_that_is_none_is_replaced_and_says_so(text: str, language: Language, mark: str) -> None:
    with bad_server(scripted(in_order((text, *GOOD[language][1:])))) as server:
        report = write(server, language=language)
    assert_whole(report)
    assert report.sections[0].mark == mark and all(sentence.by_rule for sentence in report.sections[0].sentences)
    assert report.written_by == "both" and not any(section.mark for section in report.sections[1:])


def test_a_sentence_that_comes_twice_stands_once() -> None:
    with bad_server(scripted(in_order((f"{GOOD['en'][0]} A radiologist has the final word.", *GOOD["en"][1:])))) as server:
        assert write(server).sections[0].text == GOOD["en"][0]


def test_one_text_for_every_section_stands_once() -> None:
    with bad_server(scripted(in_order(GOOD["en"][:1]))) as server:
        report = write(server)
    assert [section.mark for section in report.sections] == [None, "repeats", "repeats", "repeats"]
    assert_whole(report)


def test_a_short_section_is_filled_and_a_long_one_ends_at_its_third_sentence() -> None:
    long = "The heart is of usual size. Both lungs were compared. The diaphragm is smooth. The ribs were counted. It is dark."
    with bad_server(scripted(in_order(("The film suggests pneumonia.", long, *GOOD["en"][2:])))) as server:
        report = write(server)
    assert_whole(report)
    assert [sentence.by_rule for sentence in report.sections[0].sentences] == [False, True]
    assert report.sections[1].mark == "shortened" and report.sections[1].sentences[-1].text == "The diaphragm is smooth."


def test_a_section_cut_by_the_limit_is_continued_from_where_it_stopped() -> None:
    def answers(question: str, number: int) -> tuple[str, str]:
        if question.endswith(CONTINUE["en"]):
            return "lung looks hazy and may hold an opacity.", "stop"
        return (
            ("Overall, the film suggests pneumonia. The right lo", "length")
            if number == 0
            else (GOOD["en"][number - 1], "stop")
        )

    with bad_server(scripted(answers)) as server:
        report = write(server)
        again = [request for request in server.seen if request.command == "POST"][1].body["messages"]
    assert isinstance(again, list) and "Overall, the film suggests pneumonia." in str(again[-2]["content"])
    assert "The right lo" not in str(again)
    assert report.sections[0].text == "Overall, the film suggests pneumonia. lung looks hazy and may hold an opacity."
    assert report.sections[0].mark is None
    assert_whole(report)


def test_a_section_that_is_always_cut_ends_at_a_sentence_after_three_tries() -> None:
    def cut(_: str, number: int) -> tuple[str, str]:
        return ("The film suggests pneumonia. The right lower" if number == 0 else "and then it", "length")

    with bad_server(scripted(cut)) as server:
        report = write(server)
        assert len([request for request in server.seen if request.command == "POST"]) == 3 * len(SECTIONS)
    assert [section.mark for section in report.sections] == ["cut", "never_ended", "never_ended", "never_ended"]
    assert report.sections[0].sentences[0].text == "The film suggests pneumonia." and report.sections[0].sentences[1].by_rule
    assert_whole(report)


def test_an_engine_that_is_not_there_leaves_a_whole_report_by_rule() -> None:
    nobody = RemoteEngine(read_address(f"http://127.0.0.1:{free_port()}"), "gone", limits=Limits(4096, 16, 1))
    for language in LANGUAGES:
        *_, report = write_report(Assistant(nobody, 336), STUDY, SICK, language)
        assert_whole(report)
        assert report.written_by == "rules" and isinstance(report.trouble, EngineUnavailable)
        assert {section.mark for section in report.sections} == {"engine_failed"}


def test_an_engine_that_fails_in_the_middle_keeps_what_it_wrote_and_is_not_asked_again() -> None:
    def fail(request: Misbehaving) -> None:
        posts = [seen for seen in request.bad.seen if seen.command == "POST"]
        if len(posts) == 1:
            scripted(in_order(GOOD["en"]))(request)
        else:
            request.answer(401, {"error": {"message": "no"}})

    with bad_server(fail) as server:
        report = write(server)
        assert len([request for request in server.seen if request.command == "POST"]) == 2
    assert [section.mark for section in report.sections] == [None, "engine_failed", "engine_failed", "engine_failed"]
    assert report.trouble and report.written_by == "both"
    assert_whole(report)


def test_what_is_no_radiograph_is_not_asked_about() -> None:
    with bad_server(scripted(in_order(GOOD["ko"]))) as server:
        report = write(server, Evidence(notes=("not_a_radiograph",)), "ko")
        assert server.seen == []
    assert_whole(report)
    assert {section.mark for section in report.sections} == {"not_asked"} and report.trouble is None


def test_a_writer_that_fails_is_told_and_its_observations_are_no_section(eye: LocalEngine) -> None:
    with bad_server(lambda request: request.answer(500, {"error": "no"})) as server:
        writer = RemoteEngine(server.address, "writer", limits=Limits(4096, 0, 0))
        *_, report = write_report(Assistant(eye, eye.input_side, writer), STUDY, SICK, "ko", Sampling(8, temperature=0))
    assert_whole(report)
    assert report.trouble and report.written_by == "rules" and report.models == (eye.name, "writer")


def test_a_writer_writes_each_section(eye: LocalEngine) -> None:
    with bad_server(scripted(in_order(GOOD["ko"]))) as server:
        writer = RemoteEngine(server.address, "writer", limits=Limits(4096, 0, 0))
        steps = list(write_report(Assistant(eye, eye.input_side, writer), STUDY, SICK, "ko", Sampling(8, temperature=0)))
    assert tuple(section.text for section in steps[-1].sections) == GOOD["ko"]
    assert all(
        sentence.text in " ".join(GOOD["ko"]) for step in steps for section in step.sections for sentence in section.sentences
    )


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    return engines.load_local(engines.build_answering_alike(tmp_path_factory.mktemp("report") / "eye"), "float32")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_that_talks_nonsense_still_leaves_a_whole_report(language: Language, eye: LocalEngine) -> None:
    *_, report = write_report(Assistant(eye, eye.input_side), STUDY, SICK, language, Sampling(24, temperature=0))
    assert_whole(report)


def test_closing_stops_the_engine_and_leaves_what_there_is(eye: LocalEngine) -> None:
    assert eye._loaded
    with engines.counted(eye._loaded.model) as forwards:
        steps = write_report(Assistant(eye, eye.input_side), STUDY, SICK, "en", Sampling(300, temperature=0))
        last = next(step for step in steps if len(forwards) == 6)
        steps.close()  # type: ignore[attr-defined]
        assert engines.text(eye, engines.ASKED, Sampling(8, temperature=0)) and len(forwards) == 6 + 8
    assert not last.is_finished and last.notice == NOTICE["en"]


def test_a_report_grows_and_is_finished_only_at_its_end() -> None:
    with bad_server(scripted(in_order(GOOD["en"]))) as server:
        steps = list(write_report(remote(server), STUDY, SICK, "en", GREEDY))
    sizes = [sum(len(section.text) for section in step.sections) for step in steps]
    assert sizes == sorted(sizes) and len(set(sizes)) > 20 and steps[0].sections == ()
    assert [step.is_finished for step in steps] == [False] * (len(steps) - 1) + [True]


@pytest.mark.parametrize(
    ("text", "whole", "rest"),
    [
        ("It is 0.87 of 1. Dr. Kim agrees, e.g. here. And", ["It is 0.87 of 1.", "Dr. Kim agrees, e.g. here."], "And"),
        ("폐렴입니다.다음은 없습니다. 그리고", ["폐렴입니다.", "다음은 없습니다."], "그리고"),
        ("## Summary\n**Summary:**\n1. The lungs are clear.\n- No haze", ["The lungs are clear."], "No haze"),
        ("Line one\nLine two", ["Line one"], "Line two"),
        ('He said "no." Then', ['He said "no."'], "Then"),
        ("", [], ""),
    ],
)
def test_text_is_split_where_sentences_end(text: str, whole: list[str], rest: str) -> None:
    assert split_sentences(text) == (whole, rest)


@given(text=st.text(max_size=200))
def test_cleaned_text_stays_clean_and_its_sentences_lose_no_letter(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned and not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]", cleaned)
    split_sentences(cleaned)


def _films(shared_data: Path) -> Iterator[Study]:
    for path in sorted((shared_data / "kermany224" / "val").glob("*/*.jpeg"))[::4]:
        yield Study(Image.open(path).convert("RGB"))


def test_a_small_real_film_is_called_small(shared_data: Path) -> None:
    films = list(_films(shared_data))
    assert films and all("224" in rule_sentences("quality", film, SICK, "en")[0] for film in films)
