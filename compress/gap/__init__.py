"""The compute gap: growth of training compute and of hardware, the points it is fitted to, and what savings offset."""

from compress.gap.record import gap_record, to_dict

__all__ = ["gap_record", "to_dict"]
