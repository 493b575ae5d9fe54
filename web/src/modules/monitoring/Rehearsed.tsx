import { Alert, Tag, Tooltip } from "antd";
import type { Schemas } from "../../api/client";
import { whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { byRule } from "./alerts";
import { SeverityTag } from "./SeverityTag";
import { StepLink } from "./StoryTable";

const MOST_STEPS = 60;

/** At which steps rules would have fired, and what they would have asked for. */
export function Rehearsed({ found }: { found: Schemas["RehearsalView"] }) {
  const t = useT();
  const fired = byRule(found.firings);
  const silent = found.rules.filter((name) => !fired.some(([other]) => other === name));
  return (
    <div className="stack" data-testid="rehearsed" data-firings={found.firings.length}>
      {found.unknown_metrics.length > 0 && <Alert type="warning" showIcon title={t("alerts.try.unknown", { names: found.unknown_metrics.join(", ") })} />}
      {fired.map(([rule, firings]) => (
        <section key={rule} data-testid={`rehearsed-${rule}`}>
          <div><b>{rule}</b> <SeverityTag severity={firings[0]?.severity ?? "info"} /> {t("alerts.try.fired", { n: whole(firings.length) })}</div>
          <div className="fired-steps">
            {firings.slice(0, MOST_STEPS).map((firing) => (
              <Tooltip key={`${firing.attempt}/${firing.step}`} title={t("alerts.try.seen", { attempt: firing.attempt, message: firing.message })}>
                <span><StepLink step={firing.step} />{firing.is_exhausted && <Tag variant="outlined" className="tone" data-tone="error">{t("alerts.try.exhausted")}</Tag>}</span>
              </Tooltip>
            ))}
            {firings.length > MOST_STEPS && <span className="quiet">{t("alerts.try.more", { n: whole(firings.length - MOST_STEPS) })}</span>}
          </div>
          <div className="quiet">{asked(firings[0]?.actions ?? [], t)}</div>
        </section>
      ))}
      {silent.length > 0 && <div data-testid="rehearsed-silent">{t("alerts.try.silent", { names: silent.join(", ") })}</div>}
      {found.left_out.length > 0 && <div>{t("alerts.try.leftOut", { names: found.left_out.join(", ") })}</div>}
      {found.num_cut > 0 && <div>{t("alerts.try.cut", { n: whole(found.num_cut) })}</div>}
      <div className="quiet">{t("alerts.try.judged", { rules: found.rules.length, steps: whole(found.num_steps) })}</div>
    </div>
  );
}

function asked(actions: readonly string[], t: ReturnType<typeof useT>): string {
  return actions.length > 0 ? t("alerts.try.asked", { actions: actions.join(", ") }) : t("alerts.recorded");
}
