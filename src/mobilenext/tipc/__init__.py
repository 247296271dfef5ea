"""TIPC, the train, eval, export and infer chain by which Paddle's community accepts a reproduction.

`adapter` takes the flags that the official drivers write (`options`, `flags`), and `verbs` calls the public functions
of ``mobilenext``. `config` reads the drivers' configurations, `prepare` makes the data that they name. The driver of
our own, which runs a whole chain, is test_tipc/run.py.
"""
