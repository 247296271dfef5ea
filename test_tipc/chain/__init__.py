"""A chain of TIPC: `plan` makes the commands of a configuration, `driver` runs them and checks what each one left."""
