"""How good a probability was, once it is known what happened."""

from __future__ import annotations

from typing import Any

import numpy as np

DIGITS = 9
Z_95 = 1.959963984540054


def quality(probability: np.ndarray, churned: np.ndarray) -> dict[str, float]:
    """AUC, log loss and Brier score of predictions; both outcomes must occur."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    return {
        "auc": round(float(roc_auc_score(churned, probability)), DIGITS),
        "log_loss": round(float(log_loss(churned, probability)), DIGITS),
        "brier": round(float(brier_score_loss(churned, probability)), DIGITS),
    }


def calibration_table(probability: np.ndarray, churned: np.ndarray, groups: int = 10) -> list[dict[str, Any]]:
    """Predicted against observed share in groups of equal size, lowest predictions first.

    Equal predictions may be split over two groups; the order within them is that of the input.
    """
    order = np.argsort(probability, kind="stable")
    table = []
    for part in np.array_split(order, min(groups, len(order))):
        lost = int(churned[part].sum())
        low, high = wilson_interval(lost, len(part))
        table.append(
            {
                "customers": len(part),
                "predicted": round(float(probability[part].mean()), DIGITS),
                "observed": round(lost / len(part), DIGITS),
                "observed_low": round(low, DIGITS),
                "observed_high": round(high, DIGITS),
            }
        )
    return table


def top_decile_lift(probability: np.ndarray, churned: np.ndarray) -> float:
    """Share lost among the tenth with the highest predictions, against the share of all."""
    count = max(1, len(probability) // 10)
    top = np.argsort(-probability, kind="stable")[:count]
    return round(float(churned[top].mean() / churned.mean()), DIGITS)


def wilson_interval(hits: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a share; (0, 1) without a trial."""
    if trials == 0:
        return 0.0, 1.0
    share, spread = hits / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * np.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
