"""Each page in Chinese has the headings, commands, tables, numbers in them, pictures and links of its English twin."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from document_tables.chinese import chinese

ROOT = Path(__file__).parents[1]
MAIN = {
    "data",
    "accuracy",
    "paper_and_code",
    "training",
    "detection",
    "search",
    "deployment",
    "serving",
    "report",
    "reproduction",
    "photos",
    "boxes",
    "command_line",
    "explanations",
    "security",
    "architecture",
    "phone",
}
CHINESE_ONLY = {"terms"}  # pages of docs/cn without a twin
TWINS = {
    ROOT / "README.md": ROOT / "README_cn.md",
    **{ROOT / folder / "README.md": ROOT / folder / "README_cn.md" for folder in ("test_tipc", "examples", "deploy")},
    **{
        ROOT / "docs" / page.name: page
        for page in sorted((ROOT / "docs/cn").glob("*.md"))
        if page.stem not in CHINESE_ONLY
    },
}
ENGLISH = {twin: page for page, twin in TWINS.items()}
# Parts that only Chinese pages have, since users of Paddle expect them: from <!-- only here: NAME --> to <!-- end -->
ONLY_IN_CHINESE = {
    ROOT / "README_cn.md": ["精度表", "日志示例"],
    ROOT / "docs/cn/data.md": ["数据目录"],
    ROOT / "docs/cn/accuracy.md": ["评估日志"],
}
COMMANDS = ("mobilenext", "python", "make", "pip", "bash", "git", "cd", "curl", "docker", "sudo", "systemctl")

pairs = pytest.mark.parametrize("page", TWINS, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    """A page without the parts that only the Chinese one has."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"<!-- only here: [^>]+ -->.*?<!-- end -->\n*", "", text, flags=re.DOTALL)


def split(text: str) -> tuple[list[str], str]:
    """The lines of all code blocks, and the text around them."""
    code, prose, fence = [], [], ""
    for line in text.split("\n"):
        opened = re.match(r" *(```+|~~~+)", line)
        if opened and (not fence or line.strip() == fence):
            fence = "" if fence else opened[1]
        elif fence or re.match(r"    \S", line):
            code.append(line.rstrip())
        else:
            prose.append(line)
    return code, "\n".join(prose)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ .+$", split(text_of(page))[1], flags=re.MULTILINE)


def tables(text: str) -> list[list[str]]:
    """The rows of each table, without the rule below the heads."""
    blocks = re.findall(r"(?:^\|.*\n?)+", split(text)[1], flags=re.MULTILINE)
    return [[row for row in block.strip().split("\n") if not re.fullmatch(r"[|: -]+", row)] for block in blocks]


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", text))


def generated(text: str) -> dict[str, str]:
    return dict(re.findall(r"<!-- begin: (\w+) -->\n(.*?)<!-- end: \1 -->", text, flags=re.DOTALL))


def targets(page: Path) -> set[tuple[str, int | None]]:
    """Where the links and pictures of a page lead: the English file, and the number of the heading there."""
    places = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            places.append((link, None))
            continue
        file = (page.parent / path).resolve() if path else page
        titles = [
            re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()) for heading in (headings(file) if anchor else ())
        ]
        number = [title.replace(" ", "-") for title in titles].index(anchor) if anchor else None
        places.append((str(ENGLISH.get(file, file).relative_to(ROOT)), number))
    return set(places)


def test_the_main_documents_have_a_page_in_chinese() -> None:
    assert {page.stem for page in TWINS} >= MAIN
    listed = re.findall(r"^cn/(\w+)$", (ROOT / "docs/index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in ROOT.glob("docs/cn/*.md"))


@pairs
def test_headings(page: Path) -> None:
    levels = [[len(heading.split()[0]) for heading in headings(file)] for file in (page, TWINS[page])]
    assert levels[0] == levels[1]


@pairs
def test_commands(page: Path) -> None:
    english, translated = (split(text_of(file))[0] for file in (page, TWINS[page]))
    assert len(english) == len(translated)
    for line, twin in zip(english, translated, strict=True):
        code, twin_code = (re.sub(r"(^|\s+)#.*", "", text).rstrip() for text in (line, twin))
        if not code.split() or code.split()[0] in COMMANDS or twin_code.isascii():
            assert twin_code == code
        else:  # output or a layout that is described in words
            assert twin_code.split()[0] == code.split()[0]


@pairs
def test_tables(page: Path) -> None:
    text, twin = text_of(page), text_of(TWINS[page])
    assert [[row.count("|") for row in table] for table in tables(text)] == [
        [row.count("|") for row in table] for table in tables(twin)
    ]
    blocks, twin_blocks = generated(text), generated(twin)
    assert list(blocks) == list(twin_blocks)
    for name, block in blocks.items():
        for line, translated in zip(block.split("\n"), twin_blocks[name].split("\n"), strict=True):
            assert numbers(translated) == numbers(line), name


@pairs
def test_names_in_the_text(page: Path) -> None:
    """Options, fields and files that a page names, and so sentences that were left out."""
    own, twin = (
        {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", split(text_of(file))[1])}
        for file in (page, TWINS[page])
    )
    assert own - twin == set()


@pairs
def test_links_and_pictures(page: Path) -> None:
    own, twins = targets(page), targets(TWINS[page])
    language = {(str(page.relative_to(ROOT)), None)}  # what each links the other by
    assert own - language == twins - language
    assert re.search(rf"\[中文\]\({re.escape(str(TWINS[page].relative_to(page.parent)))}\)", text_of(page)[:900])
    back = "../" * (len(TWINS[page].relative_to(page.parent).parts) - 1) + page.name
    assert f"[English]({back})" in text_of(TWINS[page])[:300]


@pairs
def test_a_page_in_chinese_leads_to_pages_in_chinese(page: Path) -> None:
    twin = TWINS[page]
    for link in re.findall(r"\[([^]]*)\]\(([^)\s#]+)", twin.read_text(encoding="utf-8")):
        file = (twin.parent / link[1]).resolve()
        assert file not in TWINS or file == page, f"{link[1]} has a page in Chinese"


@pairs
def test_markdown_without_spaces_between_words_is_still_markup(page: Path) -> None:
    """CommonMark: stars between a punctuation mark and a word mark nothing, and a line after a comment is raw HTML."""
    text = split(TWINS[page].read_text(encoding="utf-8"))[1]
    for bold in re.finditer(r"\*\*([^*]+)\*\*", re.sub(r"`[^`]*`", "`", text)):
        around = bold.string[bold.start() - 1 : bold.start()], bold.string[bold.end() : bold.end() + 1]
        for outside, inside in zip(around, (bold[1][0], bold[1][-1]), strict=True):
            assert re.fullmatch(r"\w", inside) or not re.fullmatch(r"\w", outside), bold[0]
    assert re.findall(r"^<!--.*-->.+", text, flags=re.MULTILINE) == []


def test_what_only_chinese_pages_have() -> None:
    for page in TWINS.values():
        names = re.findall(r"<!-- only here: ([^>]+) -->", page.read_text(encoding="utf-8"))
        assert names == ONLY_IN_CHINESE.get(page, []), page


def test_a_head_without_a_translation_is_an_error() -> None:
    assert chinese("| model |\n|-------|\n| none published |") == "| 模型   |\n|--------|\n| 未公布 |"
    with pytest.raises(ValueError, match="head 'unknown column'"):
        chinese("| unknown column |\n|---|\n| 1 |")
    with pytest.raises(ValueError, match=r"note 'A new sentence[.]'"):
        chinese("A new sentence.")
    with pytest.raises(ValueError, match="cell 'never seen before'"):
        chinese("| model |\n|---|\n| never seen before |")
