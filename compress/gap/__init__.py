"""How far training compute runs ahead of the hardware: growth rates, the points that they are fitted to, the record."""

from compress.gap.record import gap_record

__all__ = ["gap_record"]
