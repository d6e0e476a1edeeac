"""The command line: `rlrun [overrides]` trains, `rlrun VERB ...` does the rest.

Verbs are found by the first word, before Hydra or torch is imported. Hydra itself takes
over only when it is asked to: by a flag of its own or by an override of `hydra.*`.

Progress and refusals go to stderr; stdout holds the result, with --json one JSON object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlrun.cli import board, choices, compare, doctor, hints, runs, train
from rlrun.cli.words import failed, refuse
from rlrun.config import ConfigError
from rlrun.config.keys import EnvError, legible
from rlrun.files import WriteError
from rlrun.runs.process import Failed, Stopped, asked

HELP = """\
usage: rlrun KEY=VALUE ...          train; rlrun train trains what config.yaml says
       rlrun VERB ...               do something else; rlrun VERB --help says more

  list [GROUP]     what there is: algo, env, model, eval, data, listener, experiment
  describe NAME    every key of an algo, env or model: type, value, bounds, meaning
  evaluate RUN     judge a trained run on fresh episodes
  play RUN         record a trained run as a GIF
  record RUN       write its episodes as a data set for imitation and offline algorithms
  resume RUN       go on with an interrupted run; total_steps=N trains a finished one further
  fork RUN         start a new run from its full state: algo.learning_rate=1e-4, ...
  report RUN       make its pictures and its report again from its files
  compare PATH...  which of the runs or folders of runs is better, and how surely
  sweep            many runs: rlrun sweep resume FOLDER goes on with them
  board [PATH...]  TensorBoard over all runs, with readable names, until Ctrl-C
  doctor           what is installed, and what is missing

main keys: algo, env, model, eval, data, seed (the first), replicas (seeds that train
together), total_steps, num_envs, device, out, algo.learning_rate, eval.episodes, ...

  rlrun algo=lstm_dqn env=cartpole            one run
  rlrun algo=ppo env=cartpole replicas=5      five seeds in one program
  rlrun env=gym env.id=Acrobot-v1             any Gymnasium id
  rlrun -m algo=dqn,ppo algo.gamma=0.95,0.99  a sweep: each combination a run

  --json           print one JSON object on stdout
  --yes            a sweep of more than 10,000 jobs is meant
  --cfg job        show the composed config and stop (a flag of Hydra, as are -m,
                   --config-dir and others: rlrun --hydra-help)
  --version
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command; the exit code.

    Raises:
        Stopped: by a signal.
    """
    as_json = "--json" in arguments
    words = [argument for argument in arguments if argument != "--json"]
    try:
        return _dispatch(words, as_json)
    except (ConfigError, EnvError) as error:
        if signum := asked():  # it broke into a library that swallowed it, and went on with half of its work
            raise Stopped(signum) from None
        return refuse(error, as_json)
    except (Failed, WriteError) as error:
        return failed(error, as_json)


def _dispatch(arguments: list[str], as_json: bool) -> int:
    word = arguments[0] if arguments else ""
    if word in VERBS:
        return VERBS[word](arguments[1:], as_json)
    if "--help" in arguments or "-h" in arguments or word == "help":
        print(legible(HELP), end="")
        return 0
    if "--version" in arguments:
        from rlrun import __version__

        print(legible(f"rlrun {__version__}"))
        return 0
    if not set(arguments) - {"--"}:
        return train.nothing_said(HELP, as_json)
    if word[:1] not in "-~=" and "=" not in word and word != "train":
        raise hints.unknown_command(arguments, VERBS)
    return train.train(arguments[1:] if word == "train" else arguments, as_json)


VERBS: dict[str, Callable[[list[str], bool], int]] = {
    "list": choices.listed,
    "describe": choices.describe,
    "evaluate": runs.evaluate,
    "play": runs.play,
    "record": runs.record,
    "resume": runs.resume,
    "fork": runs.fork,
    "report": runs.report,
    "sweep": train.sweep,
    "compare": compare.compare,
    "board": board.board,
    "doctor": doctor.doctor,
}
