/** What the metrics mean, in a line each; shown where a metric's name is pointed at. */
import type { Language } from "./index";

const MEANINGS: Record<string, Record<Language, string>> = {
  loss: { en: "What the optimizer lowers", zh: "优化器要降低的目标" },
  policy_loss: { en: "Loss of the policy, with the KL term where the loss has one, without the entropy bonus", zh: "策略损失：损失中有 KL 项时含该项，不含熵奖励" },
  value_loss: { en: "Loss of the critic: half the squared error of its values", zh: "评论家的损失：价值误差平方的一半" },
  value_mean: { en: "Mean value that the critic gives, when rollouts are scored", zh: "评分时评论家给出的平均价值" },
  value_std: { en: "Standard deviation of the critic's values", zh: "评论家价值的标准差" },
  value_clip_fraction: { en: "Share of values where clipping stops the gradient", zh: "价值被裁剪、没有梯度的比例" },
  explained_variance: { en: "Share of the returns' variance that the critic foresees; 1 is all, 0 none", zh: "评论家预见到的回报方差的比例；1 为全部，0 为没有" },
  kl_coef: { en: "Reward that a nat of distance from the reference model costs", zh: "与参考模型每奈特距离所扣的奖励" },
  entropy: { en: "Mean entropy of the next token, in nats", zh: "下一个词元的平均熵（奈特）" },
  kl_divergence: { en: "Distance from the reference model, per token in nats", zh: "与参考模型的距离，每词元（奈特）" },
  approx_kl: { en: "Distance from the policy that drew the completions, per token in nats", zh: "与采样时策略的距离，每词元（奈特）" },
  clip_fraction: { en: "Share of probability ratios where clipping stops the gradient", zh: "概率比被裁剪、没有梯度的比例" },
  clip_fraction_low: { en: "Share of ratios clipped at the lower bound", zh: "在下界被裁剪的概率比的比例" },
  clip_fraction_high: { en: "Share of ratios clipped at the upper bound", zh: "在上界被裁剪的概率比的比例" },
  ratio_mean: { en: "Mean ratio of new to old probability; 1 on fresh rollouts", zh: "新旧概率之比的平均值；新采样时为 1" },
  ratio_max: { en: "Largest ratio of new to old probability", zh: "新旧概率之比的最大值" },
  advantage_mean: { en: "Mean advantage of the completions", zh: "回答的平均优势" },
  advantage_std: { en: "Standard deviation of the advantages; 0 teaches nothing", zh: "优势的标准差；为 0 时学不到东西" },
  reward_mean: { en: "Mean reward of the completions, weighted over its parts", zh: "回答的平均奖励（各部分加权）" },
  reward_std: { en: "Standard deviation of the rewards", zh: "奖励的标准差" },
  reward_per_length: { en: "Mean of reward divided by length in tokens", zh: "奖励除以词元长度的平均值" },
  reward_errors: { en: "Scores that a reward failed to give", zh: "奖励函数未能给出的分数个数" },
  reward_model_bytes: { en: "Memory that the weights of reward models take, in bytes", zh: "奖励模型权重占用的内存（字节）" },
  zero_std_fraction: { en: "Share of completions in groups whose rewards are all equal", zh: "组内奖励全部相同的回答的比例" },
  response_length_mean: { en: "Mean length of the completions, in tokens", zh: "回答的平均长度（词元）" },
  response_length_p50: { en: "Median length of the completions, in tokens", zh: "回答长度的中位数（词元）" },
  response_length_p95: { en: "Length that 95 % of the completions do not exceed, in tokens", zh: "95% 的回答不超过的长度（词元）" },
  response_truncated_fraction: { en: "Share of completions cut off at the longest allowed", zh: "达到长度上限而被截断的回答的比例" },
  diversity_score: { en: "Share of different 4-grams; near 0 all completions say the same", zh: "不同 4 元组的比例；接近 0 表示回答几乎都一样" },
  generation_tokens_per_second: { en: "Tokens drawn per second while generating", zh: "生成阶段每秒的词元数" },
  generation_rounds: { en: "Rounds of dynamic sampling for the batch", zh: "该批次动态采样的轮数" },
  groups_resampled: { en: "Prompts replaced because their rewards were all equal", zh: "因奖励全部相同而被替换的提示数" },
  rollout_logprob_gap_mean: { en: "Mean distance between the trainer's and the generator's log-probabilities", zh: "训练与生成时对数概率之差的平均值" },
  rollout_logprob_gap_max: { en: "Largest distance between the trainer's and the generator's log-probabilities", zh: "训练与生成时对数概率之差的最大值" },
  tokens_per_second: { en: "Tokens of prompts and completions per second of a step", zh: "每步每秒处理的词元数（提示和回答）" },
  seconds_per_step: { en: "Seconds of a step; its phases add up to it", zh: "每步的秒数，为各阶段之和" },
  seconds_generating: { en: "Seconds in which completions are drawn", zh: "生成回答的秒数" },
  seconds_rewarding: { en: "Seconds in which completions are scored", zh: "计算奖励的秒数" },
  seconds_reference: { en: "Seconds in the reference model", zh: "参考模型的秒数" },
  seconds_forward: { en: "Seconds of the forward pass, with all that prepares it", zh: "前向计算及其准备的秒数" },
  seconds_backward: { en: "Seconds of the backward pass", zh: "反向计算的秒数" },
  seconds_optimizer: { en: "Seconds of clipping and of the optimizer's update", zh: "梯度裁剪与优化器更新的秒数" },
};

/** A metric's name and, where it is known, its meaning. */
export function explained(metric: string, language: Language): string {
  const meaning = Object.hasOwn(MEANINGS, metric) ? MEANINGS[metric]?.[language] : undefined;
  return meaning ? `${metric}: ${meaning}` : metric;
}
