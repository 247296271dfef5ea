"""A demo server: images in, classes and heat maps out, over HTTP. Nothing that is uploaded is kept.

A request passes ``headers`` (safe headers, time and count), ``limits`` (is there room?), ``uploads`` (bytes, counted),
``service`` (the way of an image), ``feed`` (pixels, just ahead of the network) and ``batching`` (the network); ``app``
has the routes, ``server`` the socket, ``protocol`` the connections.
"""
