"""Named tuples that are made quickly.

The constructor of a named tuple is a function of Python, which takes as long as the rest of the work. An analysis makes
ten named tuples for each layer, so it makes the most frequent ones without this function:

>>> from typing import NamedTuple
>>> class Point(NamedTuple):
...     x: int
...     y: int
>>> new(Point, (1, 2)) == Point(1, 2)
True
"""

new = tuple.__new__
