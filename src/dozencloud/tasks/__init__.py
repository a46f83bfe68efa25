"""A graph of tasks, how it is shown while it runs, and its times; knows no cloud."""
