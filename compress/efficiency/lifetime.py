"""Lifetime cost of a model: making it once, and Q queries.

C_b and C_v are the costs of making the reference and the variant, c_b and c_v those of one query. All are in one unit:
MACs, joules or money. C_v includes C_b only where the variant was made from the reference.
"""

from __future__ import annotations


def lifetime_ratio(queries: float, c_b: float, c_v: float, made_b: float = 0.0, made_v: float = 0.0) -> float:
    """Compute the lifetime ratio: R(Q) = (C_b + Q c_b) / (C_v + Q c_v).

    Args:
        queries: Q, queries over the lifetime that reach the model.
        c_b: Cost of a query with the reference.
        c_v: Cost of a query with the variant.
        made_b: C_b, cost of making the reference.
        made_v: C_v, cost of making the variant.

    Raises:
        ValueError: When a cost or the queries are negative, or the variant's lifetime cost is zero.
    """
    if min(queries, c_b, c_v, made_b, made_v) < 0:
        raise ValueError("costs and queries cannot be negative")
    cost = made_v + queries * c_v
    if cost == 0:
        raise ValueError("lifetime cost of the variant is zero")
    return (made_b + queries * c_b) / cost


def break_even(
    made_b: float | None, made_v: float | None, c_b: float | None, c_v: float | None, hit_rate: float = 0.0
) -> float | None:
    """Compute the break-even: queries after which the variant has cost less, Q* = (C_v - C_b) / (c_b - c_v) / (1 - h).

    Args:
        made_b: C_b, cost of making the reference.
        made_v: C_v, cost of making the variant.
        c_b: Cost of a query with the reference.
        c_v: Cost of a query with the variant.
        hit_rate: h, share of queries that a response cache serves; they count as queries and cost nothing.

    Returns:
        Q*, 0 where the variant is no dearer to make; None where a cost is unknown, or where the variant's query is not
        cheaper, so that it never pays.

    Raises:
        ValueError: When a cost is negative, or the hit rate is outside [0, 1).
    """
    if made_b is None or made_v is None or c_b is None or c_v is None:
        return None
    if min(made_b, made_v, c_b, c_v) < 0:
        raise ValueError("costs cannot be negative")
    if not 0 <= hit_rate < 1:
        raise ValueError(f"hit rate must be in [0, 1), not {hit_rate}")
    return max(0.0, made_v - made_b) / (c_b - c_v) / (1 - hit_rate) if c_b > c_v else None


def share_ratio(s: float, r: float, k: float = 0.0) -> float:
    """Compute the lifetime ratio from shares: R = 1 / ((1 - s) + s / r + k).

    Args:
        s: Share of inference in the reference's lifetime cost, in [0, 1].
        r: Inference cost of the reference / that of the variant.
        k: (C_v - C_b) over the reference's lifetime cost; negative where the variant is cheaper to make.

    Raises:
        ValueError: When s is outside [0, 1], r is not positive, or the variant's lifetime cost would not be positive.
    """
    if not 0 <= s <= 1 or r <= 0 or (1 - s) + s / r + k <= 0:
        raise ValueError(f"share must be in [0, 1], and ratio and lifetime cost positive, not {s}, {r} and {k}")
    return 1 / ((1 - s) + s / r + k)


def share_effort(s: float, made_b: float, made_v: float) -> float | None:
    """Compute k of `share_ratio`: (C_v - C_b) over the lifetime cost C_b / (1 - s); None where C_b is 0, or unknown."""
    return (made_v - made_b) * (1 - s) / made_b if made_b else None


def ceiling(s: float) -> float:
    """Compute the upper bound of the lifetime ratio from inference alone: 1 / (1 - s), the limit of r to infinity.

    10 at s = 0.9 (AWS's share of cost), 2.5 at s = 0.6 (Google's share of energy); infinite at s = 1.

    Raises:
        ValueError: When s is outside [0, 1].
    """
    if not 0 <= s <= 1:
        raise ValueError(f"share must be in [0, 1], not {s}")
    return 1 / (1 - s) if s < 1 else float("inf")


def cached_queries(queries: float, hit_rate: float) -> float:
    """Compute the queries that reach the model behind a response cache: (1 - h) Q, for reference and variant alike.

    Raises:
        ValueError: When the hit rate is outside [0, 1] or the queries are negative.
    """
    if not 0 <= hit_rate <= 1 or queries < 0:
        raise ValueError(f"hit rate must be in [0, 1] and queries at least 0, not {hit_rate} and {queries}")
    return (1 - hit_rate) * queries
