"""Patch k-NN against anomalib's PatchCore: the same frozen network, the same split, the same pictures.

``python -m tests.bench.patch_knn --data DIR`` fits both on the same good parts and asks both about the same held-out
ones. Image and pixel AUROC are of all of them; the time per picture is the median of rounds in which both are asked
about one picture in turn, on one thread of processor time. anomalib's memory bank is 1 % of all patches, chosen by its
own greedy coreset; everything else of it is as it comes, except for the network, which is given ours
(EfficientNet-Lite0 at strides 8 and 16). Our patch k-NN must tell more, in both figures, in at most half the time.

anomalib is no part of the product: ``pip install anomalib`` where this is to run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import PATCH_KNN, DetectorSpec, Images
from services.core.detectors.patch_features import PatchFeatures, PatchSettings, create_patch_features
from services.core.evaluation.localisation import aupro, pooled_pixel_auroc
from services.core.evaluation.metrics import auroc
from services.core.models.torchvision_import import torchvision_models
from services.experiments.detector_sample import Sample, prepare_sample, split_good
from services.experiments.parts import read_parts

LIMIT = 0.5
REPORT = Path("build/bench/patch_knn.json")
OURS, PEER = "patch-knn", "anomalib PatchCore"
FIGURES = ("image_auroc", "pixel_auroc", "aupro")
CORESET_SHARE = 0.01

Ask = Callable[[Images], tuple[NDArray[np.float64], NDArray[np.float32]]]
"""Scores ``(N,)`` and maps ``(N, H, W)`` of pictures."""


class _Layers(nn.Module):
    """Our frozen network as anomalib asks for one: maps by the names of layers."""

    def __init__(self, features: PatchFeatures) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give each stride's map."""
        return {str(number): one.clone() for number, one in enumerate(self.features.maps(images))}


def fit_peer(images: Images, seed: int) -> Ask:
    """Fit anomalib's PatchCore.

    Args:
        images: Good parts, ``uint8`` RGB, shape ``(N, H, W, 3)``.
        seed: Of its coreset.

    Returns:
        What asks it.

    Raises:
        SystemExit: If anomalib is not installed.
    """
    torchvision_models()
    try:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel
    except ImportError as error:
        raise SystemExit(f"this benchmark compares with anomalib: pip install anomalib ({error})") from error
    torch.manual_seed(seed)
    features = create_patch_features(PatchSettings())
    # It is made with a network of its own, which is then put aside.
    peer = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    peer.layers = [str(number) for number in range(len(features.channels))]
    peer.feature_extractor = _Layers(features)
    peer.train()
    with torch.no_grad():
        for image in images:
            peer(_tensor(image[None]))
        peer.subsample_embedding(CORESET_SHARE)
    peer.eval()

    def ask(some: Images) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        scores, maps = [], []
        with torch.no_grad():
            for image in some:
                found = cast("Any", peer(_tensor(image[None])))
                scores.append(float(found.pred_score.reshape(-1)[0]))
                maps.append(found.anomaly_map.reshape(image.shape[:2]).numpy())
        return np.array(scores), np.stack(maps)

    return ask


def fit_ours(images: Images, seed: int) -> Ask:
    """Fit patch k-NN with its defaults; see :func:`fit_peer`."""
    fitted = fit_detector(images, DetectorSpec(PATCH_KNN, seed=seed))

    def ask(some: Images) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        found = fitted.examine(some)
        return found.scores, cast("NDArray[np.float32]", found.maps)

    return ask


FITS: dict[str, Callable[[Images, int], Ask]] = {OURS: fit_ours, PEER: fit_peer}


def quality(sample: Sample, rows: NDArray[np.intp], ask: Ask) -> dict[str, float]:
    """Measure how well scores tell defective parts, and maps defective pixels, where masks are drawn."""
    scores, maps, masks = [], [], []
    for row in rows:
        score, found = ask(sample.images[row : row + 1])
        scores.append(float(score[0]))
        mask, place = sample.masks[row], sample.places[row]
        if mask is not None:
            maps.append(found[0, place.y : place.y + place.height, place.x : place.x + place.width])
            masks.append(mask)
    return {
        "image_auroc": auroc(np.array(scores), sample.defective[rows]),
        "pixel_auroc": pooled_pixel_auroc(maps, masks),
        "aupro": aupro(maps, masks),
    }


def times(images: Images, asks: dict[str, Ask], rounds: int) -> dict[str, list[float]]:
    """Processor time of one thread for one picture, milliseconds, each asked in turn in every round."""
    spent: dict[str, list[float]] = {name: [] for name in asks}
    for ask in asks.values():
        ask(images[:2])
    for number in range(rounds):
        image = images[number % len(images)][None]
        for name, ask in asks.items():
            started = time.process_time()
            ask(image)
            spent[name].append(1000 * (time.process_time() - started))
    return spent


def run(sample: Sample, seeds: int, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure both on every seed.

    Args:
        sample: Parts with defects and masks.
        seeds: Splits and fits.
        rounds: Of the timing, on each seed.
        tell: Told what is being done.

    Returns:
        The report.
    """
    figures: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in FITS}
    spent: dict[str, list[float]] = {name: [] for name in FITS}
    fit_s: dict[str, list[float]] = {name: [] for name in FITS}
    ratios: list[float] = []
    for seed in range(seeds):
        rows = split_good(sample.groups, sample.defective, seed)
        asks = {}
        for name, fit in FITS.items():
            tell(f"seed {seed}: fitting {name} on {len(rows['fit'])} good parts")
            started = time.perf_counter()
            asks[name] = fit(sample.images[rows["fit"]], seed)
            fit_s[name].append(time.perf_counter() - started)
        tell(f"seed {seed}: timing")
        measured = times(sample.images[rows["test"]], asks, rounds)
        ratios += [ours / peer for ours, peer in zip(measured[OURS], measured[PEER], strict=True)]
        for name, ask in asks.items():
            spent[name] += measured[name]
            tell(f"seed {seed}: asking {name} about {len(rows['test'])} parts")
            for figure, value in quality(sample, rows["test"], ask).items():
                figures[name][figure].append(value)
    return {
        "baseline": PEER,
        "threads": torch.get_num_threads(),
        "seeds": seeds,
        "ratio": statistics.median(ratios),
        "limit": LIMIT,
        "rows": [
            {
                "detector": name,
                **figures[name],
                "fit_s": fit_s[name],
                "ms": statistics.median(spent[name]),
            }
            for name in FITS
        ],
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(title=f"{report['seeds']} seed(s), median ratio of times {report['ratio']:.2f} (at most {LIMIT})")
    for name in ("detector", *FIGURES, "fit, s", "a picture, ms"):
        table.add_column(name)
    for row in report["rows"]:
        cells = (" ".join(f"{value:.3f}" for value in row[figure]) for figure in FIGURES)
        table.add_row(row["detector"], *cells, " ".join(f"{value:.0f}" for value in row["fit_s"]), f"{row['ms']:.1f}")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 where ours tells more in both figures, on the mean of the seeds, and costs at most half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="simulated:fabric", help="labelled folder, or simulated:PRODUCT")
    parser.add_argument("--parts", type=int, default=0, help="most parts; 0: all, or 600 drawn ones")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    console = Console(highlight=False)
    console.log(f"reading {options.data}")
    sample = prepare_sample(read_parts(options.data, options.parts), options.size)
    report = run(sample, options.seeds, options.rounds, console.log)
    report |= {"data": Path(options.data).name, "size_px": options.size}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report, console)
    ours, peer = report["rows"]
    better = all(statistics.fmean(ours[figure]) > statistics.fmean(peer[figure]) for figure in FIGURES[:2])
    return 0 if better and report["ratio"] <= LIMIT else 1


def _tensor(images: Images) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()


if __name__ == "__main__":
    sys.exit(main())
