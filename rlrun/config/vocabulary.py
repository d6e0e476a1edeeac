"""Which of our names is meant by a word: one of another library's, a part of ours, or a slip of the finger.

The tables hold the habits of Stable-Baselines3 and its Zoo, CleanRL, RLlib and Tianshou. A name is offered
only where it is there to be chosen, and only where it is near in meaning or in spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

# Our names (a key by its last parts), and what others call them; case and separators do not count.
SYNONYMS = {
    # the main keys
    "algo": "agent algorithm alg method learner trainer",
    "env": "environment envs environments task game gym_env env_id gym_id env.id env_name env.name",
    "model": "policy network net arch architecture backbone policy_type policy_class net_class models",
    "data": "dataset datasets expert expert_data demos demonstrations demo_path offline_data",
    "seed": "random_seed rng_seed random_state s",
    "replicas": "seeds n_seeds num_seeds runs n_runs num_runs repeats n_repeats num_samples n_replicas",
    "total_steps": "timesteps n_timesteps total_timesteps num_timesteps max_timesteps steps n env_steps "
    "total_env_steps timesteps_total frames n_frames num_frames total_frames training_steps "
    "train_steps num_env_steps",
    "num_envs": "n_env nenvs env_num parallel_envs n_workers num_workers num_env_runners training_num "
    "n_actors num_actors vec_envs num_parallel_envs n_parallel_envs",
    "device": "cuda gpu use_cuda use_gpu no_cuda gpus num_gpus n_gpus gpu_id accelerator",
    "dtype": "precision float_type",
    "threads": "n_threads num_threads torch_threads n_jobs cpus num_cpus",
    "out": "f output output_dir log_dir log_folder log_path logs save_dir save_path results_dir run_dir "
    "folder name exp_name experiment_name run_name checkpoint_dir local_dir storage_path",
    "init_from": "i trained_agent load load_path load_model pretrained pretrained_path model_path warm_start "
    "checkpoint_path from_checkpoint load_checkpoint load_from",
    "imports": "plugins gym_packages modules",
    "checkpoint.every_steps": "save_freq save_every save_interval save_frequency checkpoint_freq "
    "checkpoint_frequency checkpoint_interval",
    "checkpoint.every_seconds": "checkpoint_every save_seconds",
    "log.every": "log_interval log_freq log_frequency logging_interval print_every print_freq",
    "log.tensorboard": "tb use_tensorboard tensorboard_log tb_log",
    "stop.eval_return": "stop.return reward_threshold stop_reward target_return target_reward solved_at",
    "stop.patience": "early_stopping early_stop max_no_improvement_evals no_improvement",
    "stop.minutes": "time_budget max_time time_total_s",
    "eval.episodes": "n_eval_episodes num_eval_episodes test_num evaluation_duration",
    "eval.every": "eval_freq eval_frequency eval_interval evaluation_interval test_interval",
    "eval.mode": "deterministic deterministic_eval stochastic",
    "eval.choose": "save_best best_model load_best_model_at_end",
    "env.kwargs": "env_config env_args make_kwargs",
    "env.wrappers": "wrapper env_wrapper wrapper_class wrapper_kwargs",
    "env.max_steps": "max_episode_steps episode_length max_ep_len max_episode_length max_path_length "
    "time_limit ep_length",
    "env.path": "csv csv_path csv_file filename data_file",
    "data.path": "dataset_path data_dir demo_file",
    # what learns
    "learning_rate": "lr alpha eta learn_rate step_size optim_lr stepsize",
    "actor_learning_rate": "lr learning_rate policy_lr actor_lr pi_lr lr_actor policy_learning_rate",
    "critic_learning_rate": "lr learning_rate q_lr critic_lr qf_lr vf_lr lr_critic value_lr",
    "step_size": "lr alpha learning_rate",
    "lr_schedule": "anneal_lr lr_decay learning_rate_schedule lr_scheduler decay_lr use_linear_lr_decay",
    "adam_eps": "adam_epsilon optimizer_eps optim_eps",
    "max_grad_norm": "grad_clip gradient_clip gradient_clipping clip_grad clip_grad_norm grad_norm_clip",
    "gamma": "discount discount_factor discount_rate",
    "gae_lambda": "lambda lam lmbda gae td_lambda",
    "clip_range": "clip_coef clip_param clip_ratio clip_eps clip_epsilon eps_clip epsilon_clip ratio_clip",
    "ent_coef": "entropy_coef entropy_coeff entropy_weight entropy_cost entropy_beta entropy_bonus"
    " ent_weight",
    "vf_coef": "value_coef value_loss_coef vf_loss_coeff value_loss_coeff critic_coef value_weight",
    "algo.alpha": "ent_coef entropy_coef temperature autotune auto_alpha",
    "rollout_steps": "n_steps num_steps nsteps rollout_length rollout_len rollout_fragment_length horizon "
    "train_batch_size step_per_collect unroll_length steps_per_update update_timestep batch_timesteps",
    "n_step": "n_steps num_steps multi_step n_step_return n_step_returns estimation_step n",
    "epochs": "n_epochs num_epochs update_epochs noptepochs ppo_epochs k_epochs num_sgd_iter "
    "repeat_per_collect",
    "n_minibatches": "num_minibatches minibatches num_mini_batch batch_size minibatch_size mini_batch_size "
    "sgd_minibatch_size",
    "batch_size": "minibatch_size mini_batch_size bs replay_batch_size train_batch_size",
    "normalize_advantage": "norm_adv adv_norm advantage_norm standardize_advantages",
    "normalize_returns": "norm_reward normalize_reward reward_norm rew_norm",
    "reward_scale": "norm_reward reward_scaling",
    "log_std": "log_std_init init_std",
    "buffer_size": "memory_size mem_size replay_size replay_buffer_size replay_capacity "
    "replay_buffer_capacity memory_capacity buffer_capacity capacity replay_memory_size",
    "learning_starts": "warmup warmup_steps start_timesteps start_steps random_steps learning_start "
    "update_after min_replay_size init_random_frames start_learning prefill_steps train_start "
    "num_steps_sampled_before_learning_starts",
    "train_every": "train_freq train_frequency train_interval update_every update_freq update_interval",
    "gradient_steps": "n_updates num_updates updates_per_step update_per_step utd utd_ratio grad_steps "
    "n_gradient_steps num_gradient_steps",
    "target.every": "target_update target_update_interval target_update_freq target_update_frequency "
    "target_network_frequency target_network_update_freq target_update_period update_target_every sync_every",
    "target.tau": "polyak soft_update_tau soft_tau",
    "epsilon": "eps exploration_rate exploration",
    "epsilon.start": "exploration_initial_eps start_e eps_start initial_epsilon max_epsilon eps_train",
    "epsilon.end": "exploration_final_eps end_e eps_end final_epsilon epsilon_final min_epsilon eps_min",
    "epsilon.fraction": "exploration_fraction epsilon_decay eps_decay eps_decay_steps epsilon_timesteps "
    "annealing_steps",
    "double": "double_q double_dqn ddqn is_double use_double",
    "dueling": "dueling_dqn is_dueling use_dueling",
    "sampling": "prioritized per prioritized_replay use_per replay_buffer_class",
    "priority.alpha": "prioritized_replay_alpha per_alpha",
    "priority.beta": "prioritized_replay_beta per_beta prioritized_replay_beta0",
    "exploration_noise": "action_noise act_noise expl_noise noise_std action_noise_std sigma",
    "target_noise": "target_policy_noise policy_noise",
    "target_noise_clip": "noise_clip",
    "policy_delay": "policy_frequency policy_freq actor_delay update_actor_freq",
    "sequence_length": "seq_len sequence_len max_seq_len",
    "chunk_length": "seq_len sequence_length bptt max_seq_len",
    "planning_steps": "n_planning n_planning_steps n",
    "arms": "k n_arms num_arms",
    # the network
    "hidden": "hidden_sizes hidden_dims hidden_layers hidden_units hidden_dim hidden_size layers net_arch "
    "fcnet_hiddens hidden_layer_sizes policy_kwargs",
    "hidden_size": "lstm_hidden_size rnn_hidden_size cell_size lstm_cell_size lstm_size hidden_dim hidden "
    "hidden_sizes net_arch policy_kwargs",
    "model.layers": "num_layers n_layers n_lstm_layers rnn_layers",
    "activation": "activation_fn fcnet_activation activation_function nonlinearity",
    "normalize_obs": "norm_obs normalize obs_norm vec_normalize normalize_observations observation_filter",
    # what is chosen
    "ppo": "trpo ppo2 ppo_clip",
    "lstm_ppo": "recurrent_ppo ppo_lstm ppo_recurrent rppo",
    "a2c": "a3c",
    "reinforce": "vpg pg policy_gradient",
    "dqn": "deep_q_network",
    "double_dqn": "ddqn",
    "dueling_dqn": "d3qn",
    "prioritized_dqn": "per_dqn dqn_per",
    "epsilon_greedy": "eps_greedy e_greedy",
    "mini_rainbow": "rainbow rainbow_dqn",
    "lstm_dqn": "drqn r2d2 recurrent_dqn dqn_lstm",
    "cql_continuous": "cql_sac",
    "mlp": "mlp_policy multi_input_policy fc ff",
    "lstm": "mlp_lstm_policy rnn recurrent",
    "cnn": "cnn_policy",
    "cnn_lstm": "cnn_lstm_policy",
    "linear": "anneal",
    "huber": "smooth_l1 smooth_l1_loss",
    "greedy": "deterministic argmax",
    "sample": "stochastic",
    "prioritized": "per",
    "float32": "float fp32 single 32",
    "float64": "double fp64 64",
    # the commands
    "list": "ls algos envs available",
    "describe": "info explain man keys params",
    "evaluate": "eval test validate judge benchmark",
    "play": "enjoy watch render film video gif demo visualize",
    "record": "collect collect_data",
    "resume": "continue restart restore extend",
    "fork": "branch clone",
    "report": "plot plots draw graph curve figure",
    "compare": "table leaderboard results summary",
    "doctor": "check diagnose",
}

_CONFIG = "a config of your own is conf/experiment/NAME.yaml, under # @package _global_: say experiment=NAME"
_LISTENER = "a logger is a plug-in: listener=NAME; TensorBoard files are written without asking"
_FILM = "rlrun play RUN films a trained agent"
_SAVED = "policies and checkpoints are always saved: rlrun play RUN, rlrun resume RUN, rlrun.load(RUN)"
_SWEEP = "a sweep is -m and values with commas: rlrun -m algo=dqn,ppo seed=1,6"
_SEARCH = (
    "a search is Optuna's (pip install 'rlrun[optuna]'): "
    "rlrun -m hydra/sweeper=optuna 'algo.gamma=interval(0.9,0.999)' hydra.sweeper.n_trials=30"
)
_TRAIN = "training has no verb: rlrun algo=ppo env=cartpole"
_KEYS = "every hyper-parameter is a key: algo.gamma=0.98; rlrun describe NAME shows those of one"
_JUDGE = "rlrun evaluate RUN judges a trained run"

# Words of others that no name of ours stands for, and what there is here instead.
ADVICE = {
    "config cfg_file config_file conf conf_file yaml yaml_file c": _CONFIG,
    "track wandb use_wandb wandb_project wandb_project_name wandb_entity wandb_mode mlflow neptune comet "
    "logger loggers": _LISTENER,
    "capture_video record_video save_video save_gif render_mode render human enjoy": _FILM,
    "save save_model save_replay_buffer upload_model hf_entity": _SAVED,
    "sweep multirun tune grid grid_search": _SWEEP,
    "optimize optimize_hyperparameters hpo search n_trials sampler pruner study_name optuna": _SEARCH,
    "run learn fit start": _TRAIN,
    "hyperparams hyperparameters hyper_params hp params config_overrides": _KEYS,
    "eval_only test_only evaluate": _JUDGE,
    "resume restore resume_from continue_training": "rlrun resume RUN goes on with a run, rlrun fork RUN "
    "starts a new one from its state, init_from=RUN from its weights",
    "version v": "rlrun --version",
    "tensorboard": "rlrun board",
    "csv env_path": "env=series env.path=FILE.csv env.time=COLUMN env.price=COLUMN",
    "data_path": "data=file data.path=FOLDER",
    "data_id": "data=minari data.id=NAME",
    "max_epochs n_iterations num_iterations max_iterations": "training is counted in env steps: total_steps",
    "episodes n_episodes num_episodes max_episodes train_episodes": "training is counted in env steps: "
    "total_steps; eval.episodes are those of the final evaluation",
    "optimizer optim optimizer_class": "the optimiser is Adam: algo.learning_rate and algo.adam_eps",
    "verbose progress_bar progress quiet": "progress goes to stderr; --json prints one JSON object",
    "torch_deterministic cudnn_deterministic deterministic_torch": "a run repeats to the bit as it is, on "
    "one thread of one kind of machine",
    "frame_stack n_stack": "env=gym env.wrappers=[{FrameStackObservation: {stack_size: 4}}]",
    "atari pong breakout": "env=gym env.id=ALE/Pong-v5 imports=[ale_py], after pip install ale-py",
    "mujoco": "env=gym env.id=HalfCheetah-v5, after pip install 'gymnasium[mujoco]'",
    "vec_env vec_env_type vec_env_cls": "the copies of an environment are one batch: num_envs=N",
}

# What names of scripts and classes add to that of an algorithm.
NOISE = {"sb", "3", "cleanrl", "rllib", "tianshou", "agent", "trainer", "atari", "continuous", "action"}

_ADVICE = {word: line for words, line in ADVICE.items() for word in words.replace("_", "").split()}


def near(name: str, names: Iterable[str]) -> list[str]:
    """The names that `name` may mean, likeliest first, three at most; empty where none is near.

    Names with dots are keys, of which the last part counts, and those beside `name` come first.
    """
    names = list(names)
    return _meant(name, names) or _like(name, names)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The likeliest of the names that `name` may mean, if one is near at all."""
    return next(iter(near(name, names)), None)


def hint(name: str, names: Iterable[str]) -> str:
    """A refusal's line: which name is meant, or what there is here instead; '' if neither is known."""
    names, known = list(names), advice(name)
    found = _meant(name, names)
    if known and not any(_section(each) == _section(name) for each in found):
        return known
    found = found or _like(name, names)
    return f"did you mean {' or '.join(found)}?" if found else ""


def advice(name: str) -> str:
    """What there is here instead of what another library calls `name`; '' where that is unknown."""
    return _ADVICE.get(_fold(name), "") or _ADVICE.get(_fold(_leaf(name)), "")


def _meant(name: str, names: list[str]) -> list[str]:
    """The same name but for case, separators, a version or a section; then its synonyms."""
    typed = {_fold(name), _fold(_leaf(name))}
    ours = {own for word in typed for own in _synonyms().get(word, ())}
    same = [each for each in names if typed & _tails(each)]
    synonyms = [each for each in names if any(("." + each).endswith("." + own) for own in ours)]
    return _ranked(name, dict.fromkeys(same + synonyms))


def _like(name: str, names: list[str]) -> list[str]:
    """The nearest in spelling; else names that hold the words of `name`, or of which it holds all."""
    typed, words = _fold(_leaf(name)), _words(name) - NOISE
    if len(typed) < 3:
        return []
    slips = {each: _slips(typed, _fold(_leaf(each))) for each in names}
    near = [each for each in names if slips[each] <= (2 if len(typed) > 5 else 1)]
    if near:
        return _ranked(name, [each for each in near if slips[each] == min(slips.values())])[:1]
    holding = [
        each for each in names if _fold(_leaf(each)).startswith(typed) or (words and words <= _words(each))
    ]
    if holding:
        all_of_it = [each for each in holding if _words(each) == words]
        return _ranked(name, all_of_it or sorted(holding, key=lambda each: len(_leaf(each))))
    sections, least = {_section(each) for each in names}, max(3, len("".join(words)) / 2)
    held = [each for each in names if _words(each) <= words and len(_fold(_leaf(each))) >= least]
    return sorted((each for each in held if each not in sections), key=len)[-1:]


def _ranked(name: str, found: Iterable[str]) -> list[str]:
    """Those of the section of `name` alone, if there are any; those with few sections around them first."""
    found, section = list(found), _section(name)
    beside = [each for each in found if each.startswith(section + ".")]
    return sorted(beside or found, key=lambda each: each.count("."))[:3]


@cache
def _synonyms() -> dict[str, list[str]]:
    """Our names by the folded words of others."""
    found: dict[str, list[str]] = {}
    for own, others in SYNONYMS.items():
        for other in others.split():
            found.setdefault(_fold(other), []).append(own)
    return found


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _section(name: str) -> str:
    return name.rpartition(".")[0]


def _fold(name: str) -> str:
    """Without case, separators, and the version that an environment's id ends with."""
    return re.sub(r"[\s._-]", "", re.sub(r"-v\d+$", "", name)).lower()


def _tails(name: str) -> set[str]:
    """The folded name, whole and from each of its parts on."""
    parts = name.split(".")
    return {_fold(".".join(parts[i:])) for i in range(len(parts))}


def _words(name: str) -> set[str]:
    """The words of a key's last part: those of learningRate are learning and rate."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", re.sub(r"-v\d+$", "", _leaf(name)))
    return set(re.findall(r"[a-z]+|\d+", apart.lower()))


def _slips(a: str, b: str) -> int:
    """Letters to insert, leave out, replace, or swap with their neighbour (optimal string alignment)."""
    before, row = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        last, before, row = before, row, [i] + [0] * len(b)
        for j in range(1, len(b) + 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]
