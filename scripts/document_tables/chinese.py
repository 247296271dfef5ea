"""The generated tables in Chinese: the same rows and numbers, with translated heads, words and notes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from document_tables.chinese_words import CELLS, HEADS
from mobilenext.drawing.markdown import table

NOTES = {  # lines below and beside the tables
    "{} test pictures with {} boxes; of each class the VOC AP with 11 points. Of several seeds the mean, with the "
    "smallest and the largest value in brackets.": (
        "{} 张测试图像，共 {} 个标注框；各类别一栏为 11 点 VOC AP。多个随机种子时给出均值，括号内为最小值与最大值。"
    ),
    "{} test pictures; boxes are equal within {} pixels and {} of the score.": (
        "{} 张测试图像；位置相差不超过 {} 像素、得分相差不超过 {} 的检测框视为一致。"
    ),
    "MobileNeXt at {} pixels, a picture a call: medians of at least {} calls in {} interleaved rounds, {}, {} cores. "
    "x0.35 is the bundled `.bccd`, on {} of its pictures with {} candidates and {} boxes each; decoding and "
    "suppression are timed within the same calls. x1.0 has fresh weights, so its boxes were not timed: with 20 classes "
    "and about 1,900 candidates they take {} ms of a core, whatever the width (`results/bench_boxes.json`). The "
    "computer had other work (load average {} before, {} after): a row is uncertain by a half, so that + boxes can be "
    "the faster one; only large ratios count.": (
        "MobileNeXt，{} 像素，每次调用一张图像：至少 {} 次调用的中位数，分 {} 轮交替进行，{}，{} 核。"
        "x0.35 为随包附带的 `.bccd`，"
        "使用其 {} 张图像，每张有 {} 个候选框和 {} 个检测框；解码与非极大值抑制在同一次调用内计时。"
        "x1.0 为随机初始化的权重，"
        "因此没有对检测框计时：20 个类别、约 1,900 个候选框时，无论网络宽度多少，"
        "都占用单核 {} ms（`results/bench_boxes.json`）。"
        "测量时计算机上有其他任务（平均负载：之前 {}，之后 {}）：每行的不确定度约为一半，"
        "因此带检测框的一列可能反而更快；只有较大的比值才有意义。"
    ),
    "One core, medians. PyTorch's time over ours: {} ({} interleaved rounds: {} to {}).": (
        "单核，中位数。PyTorch 耗时与本实现之比：{}（{} 轮交替进行：{} 至 {}）。"
    ),
    "Medians of {} rounds on {} cores, {}, Paddle {}; the single image with one thread.": (
        "{} 轮的中位数，{} 核，{}，Paddle {}；单张图像使用一个线程。"
    ),
    "Medians of {} interleaved rounds, {} cores of {}, Paddle {}. Stages are timed one after the other; in the command "
    "some overlap, and processes start.": (
        "{} 轮交替测量的中位数，{} 核，{}，Paddle {}。各阶段依次计时；在命令中有些阶段同时进行，另需启动进程。"
    ),
    "Means of {} JPEG photos of {} pixels on average, in time of one core, {}, Pillow {}; {} bytes differ. Loading the "
    "loops takes {} ms of a process, compiling them {} s, once.": (
        "{} 张 JPEG 照片的均值，平均每张 {} 像素，单核时间，{}，Pillow {}；相差 {} 个字节。"
        "加载循环占每个进程 {} ms，编译需 {} s，只需一次。"
    ),
    "{} at {} pixels, {}, {} cores of {}, Paddle {}. Memory of all processes: {} MiB in the second tenth of the run, "
    "{} MiB in the last. Killed after {} images, whose journal has {} MiB; a fresh start has its first image after {} "
    "s.": (
        "{}，{} 像素，{}，{} 核 {}，Paddle {}。全部进程的内存：运行的第二个十分之一时段为 {} MiB，最后一个为 {} MiB。"
        "在第 {} 张图像之后被终止，此时的逐行日志为 {} MiB；重新开始时第一张图像在 {} s 之后。"
    ),
    "{} cores of {}, Paddle {}; a few epochs on 160 digits, or of the detector on 32 pictures with digits.": (
        "{} 核，{}，Paddle {}；在 160 张数字图像上训练几轮，检测模型则用 32 张含数字的图片。"
    ),
    "{} comparisons, those of a kind in one line, which shows the one nearest to its bound. Paddle {}, "
    "PyTorch {}, {}.": ("共 {} 项对比，同类的合为一行，显示其中最接近上限的一项。Paddle {}，PyTorch {}，{}。"),
    "Without the factor they are apart by up to {} % (formula weights) and {} % (trained weights) after one step.": (
        "不计入这一系数时，一步之后二者最多相差 {} %（公式生成的权重）和 {} %（训练所得的权重）。"
    ),
    "{}, {} cores ({}); {}. Medians of at least {} calls in {} interleaved rounds; load average {} before, {} after. "
    "The compute floor is the mult-adds at the speed of a large float32 matrix product: {} GMAC/s with 1 threads, {} "
    "GMAC/s with 2 threads.": (
        "{}，{} 核（{}）；{}。至少 {} 次调用的中位数，分 {} 轮交替进行；平均负载：之前 {}，之后 {}。"
        "“计算下限”指以大型 float32 矩阵乘法的速度完成全部乘加所需的时间：1 线程 {} GMAC/s，2 线程 {} GMAC/s。"
    ),
    "Milliseconds an image with 1 / 2 threads.": "每张图像的毫秒数，1 / 2 个线程。",
    "Medians of {} rounds, {}, Paddle {}; one thread where it does not say two.": (
        "{} 轮的中位数，{}，Paddle {}；未注明两个线程或进程的均为一个线程。"
    ),
    "Without a server two limits hold: one process for each core parses, decodes, preprocesses and predicts {} "
    "images/s in all, and threads of one process, which share Python's lock, {}; of images that are ready the "
    "processes predict {}. The limits are measured before and after each measurement of the server. The clients share "
    "the cores: what they take of them is taken off. Medians of {} interleaved rounds of {} s, {} cores of {}, ONNX "
    "Runtime {}; load average before the rounds {}.": (
        "不经服务时有两个上限：每核一个进程，合计每秒可完成 {} 张图像的解析、解码、预处理和推理；"
        "同一进程中每核一个线程（共用 Python 的锁），每秒 {} 张；若图像已准备好，各进程每秒可推理 {} 张。"
        "每次测量服务的前后都测量这两个上限。客户端与服务共用这些核，其占用部分已从上限中扣除。"
        "{} 轮交替测量的中位数，每轮 {} 秒，{} 核，{}，ONNX Runtime {}；测量之前的平均负载为 {}。"
    ),
    "Memory after every 500 of 2,000 requests: {} MiB.": "共 2,000 次请求，每 500 次之后的内存：{} MiB。",
    "Seconds of the process on a core of {}, one thread; the computer had other work. Of cells the median of {} "
    "interleaved rounds; PyTorch's time over ours is {} ({} to {}). Of blocks the mean of {} steps, with its standard "
    "error: each draws another path.": (
        "{} 单核上该进程的秒数，一个线程；测量时计算机上有其他任务。单元搜索为 {} 轮交替测量的中位数；"
        "PyTorch 耗时与本实现之比为 "
        "{}（{} 至 {}）。模块搜索为 {} 步的均值及其标准误差：每步抽取的路径不同。"
    ),
    "Operators of a step of order 1: {}.": "order 1（一阶）一步中各算子所占的时间：{}。",
    "Memory of the cells' search: the rehearsal before the first step says {} MiB or more; the steps reach {} MiB with "
    "order 1 and {} MiB with order 2.": (
        "单元搜索的内存：第一步之前的试运行估计至少需要 {} MiB；实际各步在 order 1（一阶）时达到 {} MiB，"
        "order 2（二阶）时达到 {} MiB。"
    ),
    "{} validation images, one seed each: the 95 % interval is 3 points wide on either side. {} images/s on one core "
    "of {}, {} minutes of training, peak memory {} MiB.": (
        "{} 张验证图像，各一个随机种子：95 % 置信区间为正负 3 个百分点。{} 张/秒（单核，{}），训练 {} 分钟，"
        "内存峰值 {} MiB。"
    ),
    "- #{} minus #{}: {} points; 95 % (Welch): {} to {}": "- #{} 减 #{}：{} 个百分点；95 %（Welch）：{} 至 {}",
    "{} of {} runs are finished, {} epochs each, {} validation images. n: runs, one a seed. Points: top-1 of "
    "mobilenext_x0_35 minus that of the network, over the seeds that both have; in brackets the 95 % interval "
    "(Student, paired) and their number.": (
        "已完成 {}/{} 次训练，每次 {} 轮，{} 张验证图像。n：训练次数，每个随机种子一次。百分点："
        "mobilenext_x0_35 的 top-1 减去"
        "该网络的，取二者共有的随机种子；括号内为 95 % 置信区间（Student，配对）及其个数。"
    ),
    "No run is finished (n = 0): `{}` makes them.": "尚无训练完成（n = 0）：用 `{}` 运行。",
    "{} of {} runs are finished. Networks of {} channels and {} cells, {} images of {} pixels, {} epochs, {} "
    "validation images. At 36/20: parameters with 36 channels and 20 cells. In brackets the 95 % interval (Student, "
    "paired by seed).": (
        "已完成 {}/{} 次训练。网络为 {} 通道、{} 个单元，{} 张 {} 像素的图像，{} 轮，{} 张验证图像。“按 36/20 计”："
        "36 通道、20 个单元时的参数量。括号内为 95 % 置信区间（Student，按随机种子配对）。"
    ),
    "{} of {} runs are finished. Searches with {} channels, {} cells, {} epochs on {} images of 16 pixels. Sizes: "
    "parameters with 36 channels and 20 cells. Sandglasses, skips: mean count in the normal cell. In brackets the 95 % "
    "interval against `darts` (Student, paired by seed), of geometric means. Random cells: {} of each list. By what "
    "was written down before: {}.": (
        "已完成 {}/{} 次。搜索：{} 通道、{} 个单元、{} 轮，{} 张 16 像素的图像。大小：36 通道、20 个单元时的参数量。"
        "沙漏块数、跳连数：普通单元（normal cell）中的平均个数。括号内为相对 `darts` 的 95 % 置信区间（Student，"
        "按随机种子配对，"
        "几何平均）。随机单元：每个列表 {} 个。按事先写下的判据：{}。"
    ),
    "{} of {} runs are finished. {} epochs of fine-tuning each, averaged weights. ms: whole networks, measured in "
    "turns in one run (mean of the random ones). In brackets the 95 % interval (Student, paired by seed).": (
        "已完成 {}/{} 次。每个网络微调 {} 轮，采用滑动平均权重。毫秒：整个网络，"
        "在同一次运行中轮流测量（随机网络取均值）。"
        "括号内为 95 % 置信区间（Student，按随机种子配对）。"
    ),
}
_ADD_IT = "add its Chinese to scripts/document_tables/chinese.py or chinese_words.py"
_SENTENCE = re.compile(r"[a-z]{2,} [a-z]{2,}")  # two words in a row


def chinese(text: str) -> str:
    """Return a generated block in Chinese.

    Raises:
        ValueError: a head, a note, or a cell of several words has no translation.
    """
    lines, blocks = text.split("\n"), []
    while lines:
        rows = []
        while lines and lines[0].startswith("|"):
            rows.append([cell.strip() for cell in lines.pop(0)[2:-2].split(" | ")])
        if rows:
            blocks.append(_table(rows))
        else:
            line = lines.pop(0)
            blocks.append(_strictly(line, NOTES, "note") if line else "")
    return "\n".join(blocks)


def _table(rows: list[list[str]]) -> str:
    """Return a table of which the second row is the rule below the heads."""
    head, _, *body = rows
    return table([_head(cell) for cell in head], [[_cell(cell) for cell in row] for row in body])


def _head(text: str) -> str:
    name = not text or re.fullmatch(r"\d+|`[^`]+`|[a-z]+(-[a-z]+)?( \([a-z]+\))?", text)  # such as a runtime
    return HEADS.get(text, text) if name and text not in HEADS else _strictly(text, HEADS, "head")


def _cell(text: str) -> str:
    translation = _translated(text, CELLS) or text
    if _SENTENCE.search(re.sub("`[^`]*`", "", translation)):
        raise ValueError(f"cell {text!r}: {_ADD_IT}")
    return translation


def _strictly(text: str, words: Mapping[str, str], kind: str) -> str:
    translation = _translated(text, words)
    if translation is None:
        raise ValueError(f"{kind} {text!r}: {_ADD_IT}")
    return translation


def _translated(text: str, words: Mapping[str, str]) -> str | None:
    """Return the translation of a text, or of its parts between commas, or nothing."""
    if text in words:
        return words[text]
    for pattern, translation in _patterns(tuple(words.items())):
        if match := pattern.fullmatch(text):
            return translation.format(*(_translated(part, CELLS) or part for part in match.groups()))
    parts = text.split(", ")
    if len(parts) == 1 or words is not CELLS:
        return None
    return ", ".join(_translated(part, CELLS) or part for part in parts)


@cache
def _patterns(words: tuple[tuple[str, str], ...]) -> list[tuple[re.Pattern[str], str]]:
    """Return the entries with gaps, those with the most text first."""
    with_gaps = [entry for entry in words if "{}" in entry[0]]
    with_gaps.sort(key=lambda entry: -len(entry[0].replace("{}", "")))
    return [(re.compile("(.+?)".join(map(re.escape, key.split("{}")))), translation) for key, translation in with_gaps]
