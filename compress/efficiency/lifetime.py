"""What a model costs over its life: making it once, asking it Q times.

C_b is what making the reference cost, c_b and c_c what one query costs the reference and the variant, K what making
the variant cost on top. All are in one unit: MACs, joules or money.
"""

from __future__ import annotations


def lifetime_ratio(queries: float, c_b: float, c_c: float, k: float, training: float = 0.0) -> float:
    """How many times cheaper the variant's life is: R(Q) = (C_b + Q c_b) / (C_b + K + Q c_c).

    Args:
        queries: Q, queries over the life.
        c_b: Cost of a query with the reference.
        c_c: Cost of a query with the variant.
        k: K, cost of making the variant on top of the reference.
        training: C_b, cost of making the reference.

    Raises:
        ValueError: When a cost or the queries are negative, or the variant's life costs nothing.
    """
    if min(queries, c_b, c_c, k, training) < 0:
        raise ValueError("costs and queries cannot be negative")
    cost = training + k + queries * c_c
    if cost == 0:
        raise ValueError("a life that costs nothing has no ratio")
    return (training + queries * c_b) / cost


def break_even(k: float | None, c_b: float | None, c_c: float | None) -> float | None:
    """Queries after which making the variant has paid: Q* = K / (c_b - c_c).

    Args:
        k: K, cost of making the variant on top of the reference.
        c_b: Cost of a query with the reference.
        c_c: Cost of a query with the variant.

    Returns:
        Q*; None where a cost is not known, or where the variant's query is not cheaper, so that it never pays.

    Raises:
        ValueError: When a cost is negative.
    """
    if k is None or c_b is None or c_c is None:
        return None
    if min(k, c_b, c_c) < 0:
        raise ValueError("costs cannot be negative")
    return k / (c_b - c_c) if c_b > c_c else None


def share_ratio(s: float, r: float, k: float = 0.0) -> float:
    """Lifetime ratio from shares: R = 1 / ((1 - s) + s / r + k).

    Args:
        s: Share of inference in the reference's lifetime cost, in [0, 1].
        r: How many times cheaper the variant's inference is.
        k: K over the reference's lifetime cost.

    Raises:
        ValueError: When s is no share, r not positive or k negative.
    """
    if not 0 <= s <= 1 or r <= 0 or k < 0:
        raise ValueError(f"no lifetime ratio with a share of {s}, a ratio of {r} and an effort of {k}")
    return 1 / ((1 - s) + s / r + k)


def ceiling(s: float) -> float:
    """The most that any saving in inference can give over a life: 1 / (1 - s), the limit for r to infinity.

    10 at s = 0.9 (AWS's share of cost), 2.5 at s = 0.6 (Google's share of energy); infinite at s = 1.

    Raises:
        ValueError: When s is no share.
    """
    if not 0 <= s <= 1:
        raise ValueError(f"{s} is no share")
    return 1 / (1 - s) if s < 1 else float("inf")


def cached_queries(queries: float, hit_rate: float) -> float:
    """Queries that reach the model behind a response cache: (1 - h) Q, for reference and variant alike.

    Raises:
        ValueError: When the hit rate is not in [0, 1] or there are fewer than 0 queries.
    """
    if not 0 <= hit_rate <= 1 or queries < 0:
        raise ValueError(f"{queries} queries with a hit rate of {hit_rate} cannot be")
    return (1 - hit_rate) * queries
