"""The papers behind the methods: the entries of `references.bib`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Paper:
    """A reference.

    Args:
        key: The key of its BibTeX entry.
        authors: Names as "Last, First"; only the last name if the first is not known.
        title: The title.
        year: Year of the first version.
        arxiv: Its number on arXiv; "" if only the venue is known.
        venue: Journal or conference, for papers without a number.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    arxiv: str = ""
    venue: str = ""

    @property
    def short(self) -> str:
        """First author, year, and arXiv number or venue."""
        first = self.authors[0].split(",")[0]
        others = "" if len(self.authors) == 1 else " et al."
        return f"{first}{others} {self.year}, {f'arXiv {self.arxiv}' if self.arxiv else self.venue}"

    @property
    def bibtex(self) -> str:
        """The paper as a BibTeX entry."""
        fields = {"author": " and ".join(self.authors), "title": f"{{{self.title}}}", "year": str(self.year)}
        fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"} if self.arxiv else {"journal": self.venue}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{'misc' if self.arxiv else 'article'}{{{self.key},\n{lines}\n}}"


def cite(key: str) -> Paper:
    """Return the paper with a key in `references.bib`. Raises ValueError for an unknown key."""
    if key not in references():
        raise ValueError(f"references.bib has no entry {key!r}; it has {', '.join(references())}")
    return references()[key]


@cache
def references() -> dict[str, Paper]:
    """Return the papers of `references.bib` by key."""
    text = resources.files(__package__).joinpath("references.bib").read_text(encoding="utf-8")
    return {paper.key: paper for paper in read_bibtex(text, "references.bib")}


def read_bibtex(text: str, source: str = "BibTeX") -> list[Paper]:
    """Read papers from BibTeX, any type of entry. Text between entries is a comment, as in BibTeX.

    Args:
        text: Entries such as `@misc{key, author = {...}, title = {{...}}, year = {2025}, eprint = {2505.13447}}`;
            values are in braces, in quotes, or plain numbers.
        source: Name of the text in errors.

    Returns:
        The papers in the order of the text.

    Raises:
        ValueError: If an entry is malformed or incomplete, or a key is repeated; the message names the line.
    """
    papers: dict[str, Paper] = {}
    place = 0
    while (start := text.find("@", place)) >= 0:
        where = f"{source}, line {text.count(chr(10), 0, start) + 1}"
        if not (head := _HEAD.match(text, start)):
            raise ValueError(f"{where}: an entry starts with @type{{key, ...")
        key, place, fields = head[1], head.end(), dict[str, str]()
        while not (end := _END.match(text, place)):
            if not (field := _FIELD.match(text, place)):
                line = text[place:].strip().partition("\n")[0]
                raise ValueError(
                    f"{where}: entry {key} is malformed at {line[:60]!r}; fields are name = {{value}}, ..."
                )
            fields[field[1].lower()] = " ".join(next(filter(None, field.groups()[1:]), "").split())
            place = field.end()
        place = end.end()
        if key in papers:
            raise ValueError(f"{where}: entry {key} is repeated")
        papers[key] = _paper(key, fields, where)
    return list(papers.values())


_BRACED = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"  # braces within braces within braces
_HEAD = re.compile(r"@\w+\s*\{\s*([^\s,{}=]+)\s*,")
_FIELD = re.compile(rf'\s*(\w+)\s*=\s*(?:{_BRACED}|"([^"]*)"|(\d+))\s*(?:,|(?=\}}))')
_END = re.compile(r"\s*\}")


def _paper(key: str, fields: dict[str, str], where: str) -> Paper:
    """Convert an entry to a paper."""
    venue = fields.get("journal") or fields.get("booktitle", "")
    missing = [name for name in ("author", "title", "year") if not fields.get(name)]
    missing += [] if fields.get("eprint") or venue else ["eprint or journal"]
    if missing or not fields["year"].isdigit():
        raise ValueError(f"{where}: entry {key} needs {', '.join(missing) or 'a number for its year'}")
    title = re.sub(r"^\{([^{}]*)\}$", r"\1", fields["title"])
    authors = tuple(fields["author"].split(" and "))
    return Paper(key, authors, title, int(fields["year"]), fields.get("eprint", ""), venue)


def __getattr__(name: str) -> Paper:
    """Return the paper of a key in upper case: `papers.GENG2025MEAN` is `cite("geng2025mean")`."""
    if name.isupper() and name.lower() in references():
        return cite(name.lower())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
