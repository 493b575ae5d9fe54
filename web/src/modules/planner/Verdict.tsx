import { Button, Tag } from "antd";
import { number, percent, whole } from "../../app/format";
import { useT, type Key } from "../../app/i18n";
import { paletteColour } from "../../ui/colours";
import { Meter } from "../../ui/Meter";
import { wish } from "./advice";
import { canApply, numFixed, searchAll, shownWay, type Change, type Plan, type PlanView, type WayView } from "./plan";
import { said } from "./phrases";
import { ENGINES, gibText, ofUsable, phaseName, price, seconds, wayWords } from "./words";

const SECONDS = ["computing", "communicating", "offloading", "generating", "waiting"] as const;

/** Whether it fits, how it runs best, and what that takes. */
export function Verdict({ plan, view, change }: { plan: Plan; view: PlanView; change: Change }) {
  const t = useT();
  const way = shownWay(view);
  if (!way) return null;
  const fixed = numFixed(plan.fixed);
  return (
    <section className="launch-section plan-verdict" aria-label={t("planner.answer")} data-testid="plan-verdict" data-fits={view.fits}>
      <div className="plan-headline">
        <Tag className="tone" data-tone={view.fits ? "good" : "error"} data-testid="plan-fits">{t(view.fits ? "planner.fits" : "planner.fitsNot")}</Tag>
        <b data-testid="plan-way">{ENGINES[way.engine]}{t("planner.colon")}{wayWords(way, t)}</b>
        {!view.fits && <span className="quiet">{t("planner.nearest")}</span>}
      </div>
      <div className="plan-about quiet">
        {t("planner.about", { model: view.model, size: number(view.parameters), trained: number(view.trained_parameters), n: whole(view.num_gpus), device: view.device })}
        {view.active_parameters !== view.parameters && ` ${t("planner.active", { size: number(view.active_parameters) })}`}
      </div>
      {fixed > 0 && (
        <div className="plan-pinned" data-testid="plan-pinned">
          {t("planner.pinned", { n: fixed })} <Button size="small" type="link" onClick={() => change({ fixed: searchAll() })}>{t("planner.searchAll")}</Button>
        </div>
      )}
      <Meter name={t("planner.peakIn", { phase: phaseName(way.peak_phase, t) })} share={way.share_of_device} text={ofUsable(way.peak_bytes, view.usable_bytes, t)} />
      <Facts view={view} way={way} />
      {way.fits && <StepTime way={way} />}
      {view.band && (
        <p className="plan-band" data-testid="plan-band">
          {t("planner.band", { ratio: view.band.ratio.toFixed(2), low: view.band.low.toFixed(2), high: view.band.high.toFixed(2), n: view.band.num, basis: said(view.band.basis, t) })}
        </p>
      )}
      {plan.calibrated && !view.band && <p className="plan-band quiet">{t("planner.noBand")}</p>}
      {!view.fits && <Advice plan={plan} view={view} change={change} />}
      {view.fits && way.engine === "accelerate" && <p className="plan-note">{t(canApply(view) ? "planner.apply.other" : "planner.apply.accelerate")}</p>}
      {view.warnings.length > 0 && (
        <ul className="plan-notes" data-testid="plan-warnings">
          {view.warnings.map((text) => <li key={text}>{said(text, t)}</li>)}
        </ul>
      )}
    </section>
  );
}

function Facts({ view, way }: { view: PlanView; way: WayView }) {
  const t = useT();
  const { cost } = view;
  // How fast a way would be that cannot run says nothing.
  const speeds: [name: string, key: Key, text: string][] = [
    ["speed", "planner.speed", number(way.tokens_per_second)],
    ["step", "planner.stepTime", seconds(way.seconds_per_step)],
    ["mfu", "planner.mfu", percent(way.mfu)],
  ];
  const facts: [name: string, key: Key, text: string][] = [
    ...(way.fits ? speeds : []),
    ["longest", "planner.longest", view.longest_context === null ? "\u2013" : whole(view.longest_context)],
    ["shown", "planner.shown", gibText(way.shown_bytes)],
    ["host", "planner.host", gibText(way.host_bytes)],
    ["disk", "planner.disk", gibText(view.disk_bytes)],
    ["checkpoint", "planner.checkpoint", gibText(view.checkpoint_bytes)],
  ];
  if (way.rollout_sequences !== null) facts.push(["sequences", "planner.sequences", whole(way.rollout_sequences)]);
  if (cost) {
    facts.push(["steps", "planner.stepsAll", whole(cost.steps)], ["tokens", "planner.tokensAll", number(cost.tokens)]);
    facts.push(["hours", "planner.hours", `${number(cost.hours)} h`], ["device-hours", "planner.deviceHours", number(cost.device_hours)]);
    if (cost.price !== null) facts.push(["price", "planner.price", price(cost.price)]);
  }
  return (
    <dl className="figure-list plan-facts">
      {facts.map(([name, key, text]) => (
        <div key={name}><dt>{t(key)}</dt><dd data-testid={`fact-${name}`}>{text}</dd></div>
      ))}
    </dl>
  );
}

/** What a step is made of, to scale. */
function StepTime({ way }: { way: WayView }) {
  const t = useT();
  const parts = SECONDS.map((name, index) => ({ name, colour: paletteColour(index), value: way.seconds[name] ?? 0 })).filter((part) => part.value > 0);
  return (
    <div className="plan-time" data-testid="plan-time">
      <div className="split" aria-hidden>{parts.map((part) => <span key={part.name} style={{ flexGrow: part.value, background: part.colour }} />)}</div>
      <div className="legend">
        {parts.map((part) => (
          <span key={part.name}><span className="run-dot" style={{ background: part.colour }} aria-hidden /> {t(`planner.seconds.${part.name}`)} <b>{seconds(part.value)}</b> <span className="quiet">{percent(part.value / way.seconds_per_step)}</span></span>
        ))}
      </div>
    </div>
  );
}

/** What would fit, each with a button that makes it so. */
function Advice({ plan, view, change }: { plan: Plan; view: PlanView; change: Change }) {
  const t = useT();
  return (
    <ul className="plan-notes" data-testid="plan-advice">
      {view.advice.map((text) => {
        const changes = wish(text, plan);
        return <li key={text}>{said(text, t)} {changes && <Button size="small" type="link" onClick={() => change(changes)}>{t("planner.try")}</Button>}</li>;
      })}
    </ul>
  );
}
