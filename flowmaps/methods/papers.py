"""The papers behind the methods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """What a reference needs. arxiv: its number there, empty where only the venue is known."""

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    arxiv: str = ""
    venue: str = ""

    @property
    def short(self) -> str:
        """First author, year, and where to find it."""
        first = self.authors[0].split(",")[0]
        others = "" if len(self.authors) == 1 else " et al."
        return f"{first}{others} {self.year}, {f'arXiv {self.arxiv}' if self.arxiv else self.venue}"

    @property
    def bibtex(self) -> str:
        """A BibTeX entry. Where the first names are missing here, so are they there."""
        fields = {"author": " and ".join(self.authors), "title": f"{{{self.title}}}", "year": str(self.year)}
        fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"} if self.arxiv else {"journal": self.venue}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{'misc' if self.arxiv else 'article'}{{{self.key},\n{lines}\n}}"


LIPMAN2023FLOW = Paper(
    "lipman2023flow",
    (
        "Lipman, Yaron",
        "Chen, Ricky T. Q.",
        "Ben-Hamu, Heli",
        "Nickel, Maximilian",
        "Le, Matt",
    ),
    "Flow Matching for Generative Modeling",
    2023,
    arxiv="2210.02747",
)
BOFFI2024FLOW = Paper(
    "boffi2024flow",
    (
        "Boffi, Nicholas M.",
        "Albergo, Michael S.",
        "Vanden-Eijnden, Eric",
    ),
    "Flow map matching with stochastic interpolants: A mathematical framework for consistency models",
    2024,
    arxiv="2406.07507",
)
BOFFI2025BUILD = Paper(
    "boffi2025build",
    (
        "Boffi, Nicholas M.",
        "Albergo, Michael S.",
        "Vanden-Eijnden, Eric",
    ),
    "How to build a consistency model: Learning flow maps via self-distillation",
    2025,
    arxiv="2505.18825",
)
SABOUR2025ALIGN = Paper(
    "sabour2025align",
    (
        "Sabour, Amirmojtaba",
        "Fidler, Sanja",
        "Kreis, Karsten",
    ),
    "Align Your Flow: Scaling Continuous-Time Flow Map Distillation",
    2025,
    arxiv="2506.14603",
)
ZHOU2025TERMINAL = Paper(
    "zhou2025terminal",
    (
        "Zhou, Linqi",
        "Parger, Mathias",
        "Haque, Ayaan",
        "Song, Jiaming",
    ),
    "Terminal Velocity Matching",
    2025,
    arxiv="2511.19797",
)
TONG2025FLOW = Paper(
    "tong2025flow",
    (
        "Tong, Shangyuan",
        "Ma, Nanye",
        "Xie, Saining",
        "Jaakkola, Tommi",
    ),
    "Flow Map Distillation Without Data",
    2025,
    arxiv="2511.19428",
)
TEE2024PHYSICS = Paper(
    "tee2024physics",
    (
        "Tee, Joshua Tian Jin",
        "Zhang, Kang",
        "Yoon, Hee Suk",
        "Gowda, Dhananjaya Nagaraja",
        "Kim, Chanwoo",
        "Yoo, Chang D.",
    ),
    "Physics Informed Distillation for Diffusion Models",
    2024,
    venue="Transactions on Machine Learning Research",
)
GU2023BOOT = Paper(
    "gu2023boot",
    (
        "Gu, Jiatao",
        "Zhai, Shuangfei",
        "Zhang, Yizhe",
        "Liu, Lingjie",
        "Susskind, Josh",
    ),
    "BOOT: Data-free Distillation of Denoising Diffusion Models with Bootstrapping",
    2023,
    arxiv="2306.05544",
)
SONG2023CONSISTENCY = Paper(
    "song2023consistency",
    (
        "Song, Yang",
        "Dhariwal, Prafulla",
        "Chen, Mark",
        "Sutskever, Ilya",
    ),
    "Consistency Models",
    2023,
    arxiv="2303.01469",
)
KIM2023CONSISTENCY = Paper(
    "kim2023consistency",
    (
        "Kim, Dongjun",
        "Lai, Chieh-Hsin",
        "Liao, Wei-Hsiang",
        "Murata, Naoki",
        "Takida, Yuhta",
        "Uesaka, Toshimitsu",
        "He, Yutong",
        "Mitsufuji, Yuki",
        "Ermon, Stefano",
    ),
    "Consistency Trajectory Models: Learning Probability Flow ODE Trajectory of Diffusion",
    2023,
    arxiv="2310.02279",
)
LUO2025SOFLOW = Paper(
    "luo2025soflow",
    (
        "Luo, Tianze",
        "Yuan, Haotian",
        "Liu, Zhuang",
    ),
    "SoFlow: Solution Flow Models for One-Step Generative Modeling",
    2025,
    arxiv="2512.15657",
)
PENG2025FACM = Paper(
    "peng2025facm",
    (
        "Peng",
        "Zhu",
        "Liu",
        "Wu",
        "Li",
        "Sun",
        "Wu",
    ),
    "FACM: Flow-Anchored Consistency Models",
    2025,
    arxiv="2507.03738",
)
GENG2025MEAN = Paper(
    "geng2025mean",
    (
        "Geng, Zhengyang",
        "Deng, Mingyang",
        "Bai, Xingjian",
        "Kolter, J. Zico",
        "He, Kaiming",
    ),
    "Mean Flows for One-step Generative Modeling",
    2025,
    arxiv="2505.13447",
)
GENG2025IMPROVED = Paper(
    "geng2025improved",
    (
        "Geng, Zhengyang",
        "Lu, Yiyang",
        "Wu, Zongze",
        "Shechtman, Eli",
        "Kolter, J. Zico",
        "He, Kaiming",
    ),
    "Improved Mean Flows: On the Challenges of Fastforward Generative Models",
    2025,
    arxiv="2512.02012",
)
ZHANG2025ALPHAFLOW = Paper(
    "zhang2025alphaflow",
    (
        "Zhang, Huijie",
        "Siarohin, Aliaksandr",
        "Menapace, Willi",
        "Vasilkovsky, Michael",
        "Tulyakov, Sergey",
        "Qu, Qing",
        "Skorokhodov, Ivan",
    ),
    "AlphaFlow: Understanding and Improving MeanFlow Models",
    2025,
    arxiv="2510.20771",
)
LEE2025DECOUPLED = Paper(
    "lee2025decoupled",
    (
        "Lee, Kyungmin",
        "Yu, Sihyun",
        "Shin, Jinwoo",
    ),
    "Decoupled MeanFlow: Turning Flow Models into Flow Maps for Accelerated Sampling",
    2025,
    arxiv="2510.24474",
)
ZHANG2025OVERCOMING = Paper(
    "zhang2025overcoming",
    (
        "Zhang, Xinxi",
        "Tan",
        "Nguyen",
        "Dao",
        "Han",
        "He",
        "Zhang",
        "Mao",
        "Metaxas",
        "Pavlovic",
    ),
    "Overcoming the Curvature Bottleneck in MeanFlow",
    2025,
    arxiv="2511.23342",
)
LU2026ONE = Paper(
    "lu2026one",
    (
        "Lu",
        "Lu",
        "Sun",
        "Zhao",
        "Jiang",
        "Wang",
        "Li",
        "Geng",
        "He",
    ),
    "One-step Latent-free Image Generation with Pixel Mean Flows",
    2026,
    arxiv="2601.22158",
)
SONG2023IMPROVED = Paper(
    "song2023improved",
    (
        "Song, Yang",
        "Dhariwal, Prafulla",
    ),
    "Improved Techniques for Training Consistency Models",
    2023,
    arxiv="2310.14189",
)
GENG2024CONSISTENCY = Paper(
    "geng2024consistency",
    (
        "Geng, Zhengyang",
        "Pokle, Ashwini",
        "Luo, William",
        "Lin, Justin",
        "Kolter, J. Zico",
    ),
    "Consistency Models Made Easy",
    2024,
    arxiv="2406.14548",
)
LU2024SIMPLIFYING = Paper(
    "lu2024simplifying",
    (
        "Lu, Cheng",
        "Song, Yang",
    ),
    "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models",
    2024,
    arxiv="2410.11081",
)
LUO2023LATENT = Paper(
    "luo2023latent",
    (
        "Luo, Simian",
        "Tan, Yiqin",
        "Huang, Longbo",
        "Li, Jian",
        "Zhao, Hang",
    ),
    "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference",
    2023,
    arxiv="2310.04378",
)
HU2025CMT = Paper(
    "hu2025cmt",
    (
        "Hu, Zheyuan",
        "Lai, Chieh-Hsin",
        "Mitsufuji, Yuki",
        "Ermon, Stefano",
    ),
    "CMT: Mid-Training for Efficient Learning of Consistency, Mean Flow, and Flow Map Models",
    2025,
    arxiv="2509.24526",
)
FRANS2024ONE = Paper(
    "frans2024one",
    (
        "Frans, Kevin",
        "Hafner, Danijar",
        "Levine, Sergey",
        "Abbeel, Pieter",
    ),
    "One Step Diffusion via Shortcut Models",
    2024,
    arxiv="2410.12557",
)
GUO2025SPLITMEANFLOW = Paper(
    "guo2025splitmeanflow",
    (
        "Guo",
        "Wang",
        "Yuan",
        "Cao",
        "Chen",
        "Chen",
        "Huo",
        "Zhang",
        "Wang",
        "Liu",
        "Wang",
    ),
    "SplitMeanFlow: Interval Splitting Consistency in Few-Step Generative Modeling",
    2025,
    arxiv="2507.16884",
)
SALIMANS2022PROGRESSIVE = Paper(
    "salimans2022progressive",
    (
        "Salimans, Tim",
        "Ho, Jonathan",
    ),
    "Progressive Distillation for Fast Sampling of Diffusion Models",
    2022,
    arxiv="2202.00512",
)
