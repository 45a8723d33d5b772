"""Lifetime cost of a model: making it once, and Q queries.

C_b is the cost of making the reference, c_b and c_c the cost of one query to the reference and to the variant, K the
cost of making the variant on top. All are in one unit: MACs, joules or money.
"""

from __future__ import annotations


def lifetime_ratio(queries: float, c_b: float, c_c: float, k: float, training: float = 0.0) -> float:
    """Compute the lifetime ratio: R(Q) = (C_b + Q c_b) / (C_b + K + Q c_c).

    Args:
        queries: Q, queries over the lifetime.
        c_b: Cost of a query with the reference.
        c_c: Cost of a query with the variant.
        k: K, cost of making the variant on top of the reference.
        training: C_b, cost of making the reference.

    Raises:
        ValueError: When a cost or the queries are negative, or the variant's lifetime cost is zero.
    """
    if min(queries, c_b, c_c, k, training) < 0:
        raise ValueError("costs and queries cannot be negative")
    cost = training + k + queries * c_c
    if cost == 0:
        raise ValueError("lifetime cost of the variant is zero")
    return (training + queries * c_b) / cost


def break_even(k: float | None, c_b: float | None, c_c: float | None) -> float | None:
    """Compute the break-even: queries after which the variant has repaid its making, Q* = K / (c_b - c_c).

    Args:
        k: K, cost of making the variant on top of the reference.
        c_b: Cost of a query with the reference.
        c_c: Cost of a query with the variant.

    Returns:
        Q*; None where a cost is unknown, or where the variant's query is not cheaper, so that it never pays.

    Raises:
        ValueError: When a cost is negative.
    """
    if k is None or c_b is None or c_c is None:
        return None
    if min(k, c_b, c_c) < 0:
        raise ValueError("costs cannot be negative")
    return k / (c_b - c_c) if c_b > c_c else None


def share_ratio(s: float, r: float, k: float = 0.0) -> float:
    """Compute the lifetime ratio from shares: R = 1 / ((1 - s) + s / r + k).

    Args:
        s: Share of inference in the reference's lifetime cost, in [0, 1].
        r: Inference cost of the reference / that of the variant.
        k: K over the reference's lifetime cost.

    Raises:
        ValueError: When s is outside [0, 1], r is not positive or k is negative.
    """
    if not 0 <= s <= 1 or r <= 0 or k < 0:
        raise ValueError(f"share must be in [0, 1], ratio positive and effort at least 0, not {s}, {r} and {k}")
    return 1 / ((1 - s) + s / r + k)


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
