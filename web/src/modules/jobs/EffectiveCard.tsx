import { Card } from "antd";
import type { ReactNode } from "react";
import type { JobDetail } from "../../api/client";
import { number, whole } from "../../app/format";
import { useT, type Translate } from "../../app/i18n";
import { personText } from "../monitoring/alerts";
import { beginningOf, followsSchedule, type Change } from "./settings";

interface Row {
  key: string;
  name: ReactNode;
  requested: string;
  effective: string;
  /** Oldest first. */
  because: string[];
}

const MOST_REASONS = 5;

/** What is in effect otherwise than the job file says, and through whom. Nothing where all is as it says. */
export function EffectiveCard({ job }: { job: JobDetail }) {
  const t = useT();
  const rows = [...settings(job, t), ...beginning(job, t)];
  if (rows.length === 0) return null;
  return (
    <Card size="small" title={t("effective.title")} data-testid="effective">
      <dl className="live-settings effective">
        {rows.map((row) => (
          <div key={row.key} className="live-setting" data-testid={`effective-${row.key}`}>
            <dt>{row.name}</dt>
            <dd>
              <div>{t("effective.requested", { value: row.requested })} · <b>{t("effective.effective", { value: row.effective })}</b></div>
              {row.because.length > MOST_REASONS && <div className="quiet">{t("effective.earlier", { n: row.because.length - MOST_REASONS })}</div>}
              {row.because.slice(-MOST_REASONS).map((line, at) => <div key={`${at} ${line}`} className="quiet">{line}</div>)}
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}

function settings(job: JobDetail, t: Translate): Row[] {
  return job.deviations.map((one) => {
    const isPeak = one.name === "learning_rate" && followsSchedule(job);
    return {
      key: one.name,
      name: <><code>{one.name}</code>{isPeak && <div className="quiet">{t("effective.peak")}</div>}</>,
      requested: one.requested === null ? t("effective.notNamed") : number(one.requested),
      effective: number(one.effective),
      because: one.changes.length > 0 ? one.changes.map((change) => changedBy(change, job.attempt, t)) : [t("effective.algorithm")],
    };
  });
}

function changedBy(change: Change, newest: number, t: Translate): string {
  const values = { before: number(change.before), after: number(change.after), step: whole(change.step) };
  const story = change.rule !== null ? t("effective.rule", { ...values, rule: change.rule }) : t(change.is_undo ? "effective.undo" : "effective.person", { ...values, who: personText(change.by ?? "", t) });
  return change.attempt < newest ? `${story} ${t("effective.carried", { attempt: change.attempt })}` : story;
}

function beginning(job: JobDetail, t: Translate): Row[] {
  const { from, skipped, rollback, attempt } = beginningOf(job);
  const why = rollback ? t("effective.rollback", { rule: rollback.rule, step: whole(rollback.step), to: whole(rollback.to_step) }) : t("effective.resumed", { attempt });
  const rows: Row[] = [];
  if (from !== null) rows.push({ key: "start", name: t("effective.start"), requested: t("effective.beginning"), effective: from, because: [why] });
  if (skipped.length > 0) rows.push({ key: "skipped", name: t("effective.data"), requested: t("effective.allBatches"), effective: t("effective.without", { steps: skipped.map(whole).join(", ") }), because: [t("effective.skipped")] });
  return rows;
}
