"""What goes wrong and is said in one line."""


class InvalidSettingError(ValueError):
    """A setting that cannot be used: which one, and what is wrong with it."""

    def __init__(self, setting: str, problem: str):
        super().__init__(f"`{setting}` {problem}")
        self.setting = setting
        self.problem = problem


class DataError(Exception):
    """Data that are missing or wrong: one sentence on what, where, and what to do."""


class CannotReadError(Exception):
    """A run cannot be read: which file, and what is wrong with it."""


class CannotWriteError(Exception):
    """A file of the run could not be written: which one, and why."""
