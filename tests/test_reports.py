"""Sections of reports: found where they are, verbatim, in any text, and from every source."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reports import by_hand, openi_cases, score
from finetune import reports
from finetune.report_headings import SECTIONS, section_of
from finetune.report_sections import sections, segments

HAND = Path(__file__).parent / "hand_reports.txt"
PIECES = st.sampled_from(
    [
        "FINDINGS",
        "Impression",
        "소견",
        "결론",
        "there are no findings",
        ":",
        "\n",
        "\n\n",
        " ",
        ". ",
        "___",
        "[** **]",
        "XXXX",
        "1. ",
    ]
    + [
        "The lungs are clear",
        "비교",
        "-",
        "**",
        "(",
        ")",
        "\r\n",
        "INDICATION: History:",
        "\u2028",
        "IMPRESION",
        "<",
        "]",
        "WET READ",
    ]
)
REPORTS = st.lists(PIECES | st.text(max_size=20), max_size=25).map("".join)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = reports.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def told(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@given(REPORTS)
def test_every_character_stands_in_exactly_one_segment(text: str) -> None:
    assert "".join(segment.heading + segment.body for segment in segments(text)) == text


@given(REPORTS)
def test_every_section_is_made_of_the_text_as_it_stands(text: str) -> None:
    for name, body in sections(text).items():
        assert name in SECTIONS
        parts = [each.body.strip() for each in segments(text) if each.section == name and each.body.strip()]
        assert body == "\n".join(parts) and all(part in text for part in parts)


def test_the_reports_by_hand_are_found() -> None:
    found = score(by_hand(HAND))
    assert found["reports"] == 60
    assert found["f1"] >= 0.995  # type: ignore[operator]


def test_the_score_sees_a_section_that_was_not_found() -> None:
    assert score([("FINDINGS: clear", {"FINDINGS": "clear", "IMPRESSION": "normal"})])["f1"] == pytest.approx(2 / 3, abs=1e-3)


def test_openi_made_ragged_is_found(shared_data: Path) -> None:
    found = score(openi_cases(shared_data / "openi_reports", seeds=1))
    assert found["f1"] >= 0.995  # type: ignore[operator]


@pytest.mark.parametrize("case", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("name", SECTIONS)
def test_each_of_the_seven_is_known_in_any_case(name: str, case: "type[str]") -> None:
    assert section_of(case(name)) == name


@pytest.mark.parametrize(
    "phrase", ["compression", "medication", "notification", "no findings were", "비고", "소변", "final report", ""]
)
def test_what_is_no_heading_is_none(phrase: str) -> None:
    assert section_of(phrase, lenient=True) is None


@pytest.mark.parametrize(
    "sentence",
    [
        "There are no findings: the lungs are clear.",
        "No acute findings: normal.",
        "This is unchanged in comparison: stable.",
        "Findings are consistent with edema.",
        "특이 소견: 없음.",
        "위의 소견: 정상 변이.",
    ],
)
def test_a_heading_said_in_passing_cuts_nothing(sentence: str) -> None:
    assert sections(f"FINDINGS: Clear lungs. {sentence}") == {"FINDINGS": f"Clear lungs. {sentence}"}


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ("[검사명] 흉부 PA [소견] 맑음. [결론] 정상", {"EXAMINATION": "흉부 PA", "FINDINGS": "맑음.", "IMPRESSION": "정상"}),
        ("◆ 소견 :\n 1. 폐: 맑음\n 2. 비교: 없음\n◆ 결론 :\n 정상",
         {"FINDINGS": "1. 폐: 맑음\n 2. 비교: 없음", "IMPRESSION": "정상"}),
        ("판독 소견 :\n심장비대 소견: 없음\n판독 결론 :\n정상", {"FINDINGS": "심장비대 소견: 없음", "IMPRESSION": "정상"}),
        ("소견) 폐렴\n결론) 폐렴. CT 검사: 권고.", {"FINDINGS": "폐렴", "IMPRESSION": "폐렴. CT 검사: 권고."}),
        ("검사방법 PA\n비교 없음\n소견 깨끗함", {"TECHNIQUE": "PA", "COMPARISON": "없음", "FINDINGS": "깨끗함"}),
        ("FINDINGS: Heart normal IMPRESSION: Normal", {"FINDINGS": "Heart normal", "IMPRESSION": "Normal"}),
        ("Impression/Plan: none", {"IMPRESSION": "none"}),
        ("Histroy: cough\nTechniqe: PA\nImpresion: clear", {"HISTORY": "cough", "TECHNIQUE": "PA", "IMPRESSION": "clear"}),
        ("INDICATION: Fall.\n\nTWO VIEWS: The lungs are clear.", {"INDICATION": "Fall.", "FINDINGS": "The lungs are clear."}),
        ("FINDINGS: (1) Nodule; comparison: none.\nIMPRESSION: The exam: ok.",
         {"FINDINGS": "(1) Nodule; comparison: none.", "IMPRESSION": "The exam: ok."}),
        ("WET READ: clear lungs are seen.\nFINAL REPORT\nHISTORY: Cough.\nNOTIFICATION: by phone", {"HISTORY": "Cough."}),
    ],
)  # fmt: skip
def test_reports_as_they_come_are_cut_where_they_should(report: str, found: dict[str, str]) -> None:
    assert sections(report) == found


def test_a_report_without_headings_that_states_findings_is_findings() -> None:
    assert sections("The lungs are clear. The heart is normal.") == {"FINDINGS": "The lungs are clear. The heart is normal."}
    assert sections("Bonjour, rien de particulier.") == {}


def test_a_mimic_folder_keeps_patients_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for patient, study in (("p10000032", "s50414267"), ("p10000764", "s57375967")):
        file = tmp_path / "files" / "p10" / patient / f"{study}.txt"
        file.parent.mkdir(parents=True)
        file.write_text(
            " FINAL REPORT\n INDICATION:  History: ___F with cough\n\n FINDINGS: \n \n Clear.\n\n IMPRESSION: Normal.\n"
        )
    out = tmp_path / "out.jsonl"
    assert run(capsys, tmp_path / "files", "--out", out)[0] == 0
    assert [(row["id"], row["patient"]) for row in told(out)] == [("s50414267", "p10000032"), ("s57375967", "p10000764")]
    assert told(out)[0]["sections"] == {"INDICATION": "History: ___F with cough", "FINDINGS": "Clear.", "IMPRESSION": "Normal."}
    assert json.loads((tmp_path / "out.jsonl.config.json").read_text())["input"] == "files"


def test_openi_xml_is_taken_by_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = '<AbstractText Label="FINDINGS">IMPRESSION: of a mass</AbstractText><AbstractText Label="IMPRESSION"/>'
    (tmp_path / "7.xml").write_text(f'<e><uId id="CXR7"/>{parts}</e>')
    assert run(capsys, tmp_path / "7.xml", "--out", tmp_path / "out.jsonl")[0] == 0
    assert told(tmp_path / "out.jsonl") == [
        {"id": "CXR7", "patient": "CXR7", "sections": {"FINDINGS": "IMPRESSION: of a mass"}}
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_a_korean_table_is_read_in_the_encodings_of_hospitals(
    encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.csv").write_bytes('ID,Note\r\n7,"소견: 깨끗함.\n결론: 정상"\r\n'.encode(encoding))
    assert run(capsys, tmp_path / "notes.csv", "--out", tmp_path / "out.jsonl")[0] == 0
    assert told(tmp_path / "out.jsonl")[0]["sections"] == {"FINDINGS": "깨끗함.", "IMPRESSION": "정상"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"id,text\n1,x\n", "a.csv, line 1: a table of reports needs the columns id and note; it has id, text."),
        ("a.csv", b"id,note\n1,x\n1,y\n", "a.csv, line 3: id is there twice."),
        ("a.csv", b"id,note\n1\n", "a.csv, line 2: note is missing."),
        ("a.csv", b'id,note\n1,"x"y\n', "a.csv, line 2: this is not CSV"),
        ("a.xml", b"<e><f></e>", "a.xml, line 1, column 8: this is not XML."),
        ("a.xml", b'<!DOCTYPE e [<!ENTITY x "y">]><e>&x;</e>', "a.xml defines entities"),
        ("a.xml", b"<e/>", "a.xml holds no AbstractText"),
        ("a.txt", b"\xff\xfe\xff\0\0\xd8", "a.txt is not text"),
        ("a.txt", b" \n ", "a.txt holds no report: every text is empty."),
        ("folder/a.pdf", b"%PDF", "There is no report in"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    name: str, content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    source = file.parent if "/" in name else file
    code, err = run(capsys, source, "--out", tmp_path / "out.jsonl")
    assert code == 2 and said in err and err.splitlines()[-1].startswith("hilum: ")
    assert not (tmp_path / "out.jsonl").exists()


def test_an_empty_report_among_others_is_kept_without_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n.csv").write_text("id,note\n1,\n2,FINDINGS: clear\n")
    assert run(capsys, tmp_path / "n.csv", "--out", tmp_path / "out.jsonl")[0] == 0
    assert [row["sections"] for row in told(tmp_path / "out.jsonl")] == [{}, {"FINDINGS": "clear"}]


def test_ten_megabytes_in_one_line_come_to_an_end() -> None:
    assert list(sections("FINDINGS: " + "the heart is normal, " * 480_000 + ". IMPRESSION: Clear.")) == [
        "FINDINGS",
        "IMPRESSION",
    ]


def test_a_misspelt_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        reports.main([str(tmp_path), "--uot", "x"])
    assert ended.value.code == 2
