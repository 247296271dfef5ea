"""TIPC, the train, eval, export and infer chain by which Paddle's community accepts a reproduction.

`adapter` takes the flags that the official drivers write and calls the command line's verbs. `config` reads the
drivers' configurations, `plan` makes the commands of them, `driver` runs these and holds their results to account.
"""
