"""Why a network answers as it does, and how it is built.

``gradcam``: where in the image the score of a class comes from. ``overlay``, ``page`` and ``pictures``: that as
pictures. ``anatomy`` and ``diagram``: the network drawn from itself.
"""
