"""From words to a checked `RunConfig`. YAML says how much, this room says what it means.

`keys` is a config field, `run` what every run has, `plain` the way to JSON and back; `compose`
asks Hydra, `sources` tells it where configs are, `explain` puts its errors into words, and
`catalog` knows what there is to choose from.
"""

from rlrun.config.keys import ConfigError as ConfigError
from rlrun.config.keys import key as key
