"""The errors that this project raises, by what the user has to do about them.

Every class is also the builtin it means, and carries the exit status of the command line: 2 for bad input or
usage, 3 for a machine that cannot do what was asked. A call that raises has created nothing.
"""


class MuseTalkEdgeError(Exception):
    """Base of every error this project raises on purpose. Its text is one line and says what to do next."""

    exit_status = 2


class InputNotFound(MuseTalkEdgeError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class InvalidArgument(MuseTalkEdgeError, ValueError):
    """An argument is out of its range or contradicts another."""


class InvalidFolder(MuseTalkEdgeError, ValueError):
    """A model set, bundle or avatar does not hold what its manifest says, or has another schema or kind."""


class InvalidMedia(MuseTalkEdgeError, ValueError):
    """A video, picture or audio file cannot be read, is truncated, or holds nothing of use."""


class InvalidCheckpoint(MuseTalkEdgeError, ValueError):
    """A checkpoint is incomplete, or its weights do not fit its config."""


class FaceNotFound(MuseTalkEdgeError, LookupError):
    """No face was found where one is needed."""


class AvatarMismatch(MuseTalkEdgeError, ValueError):
    """An avatar's latents were made by another VAE encoder than the bundle's."""


class OutputError(MuseTalkEdgeError, OSError):
    """The output cannot be opened or written."""


class MachineError(MuseTalkEdgeError, RuntimeError):
    """This machine cannot do it: a package or device is missing, or the bundle was built for another machine."""

    exit_status = 3


class PlanError(MachineError):
    """TensorRT cannot build a graph, or not run the plan it built of it; the same graph written otherwise may do."""


class AccuracyError(MuseTalkEdgeError, ArithmeticError):
    """A graph or an engine computes something else than the model it was made from."""

    exit_status = 3


def one_line(error: object) -> str:
    """The text of an error without line breaks, for a log, a terminal or an answer."""
    return " ".join(str(error).split())
