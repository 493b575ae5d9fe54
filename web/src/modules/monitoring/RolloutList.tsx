import { Empty, Tag } from "antd";
import { useEffect, useRef, type KeyboardEvent } from "react";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import type { Page, Row } from "./rolloutView";

interface Props {
  page: Page;
  /** Under the headings of their prompts, or in one row. */
  isGrouped: boolean;
  chosen: number | null;
  choose: (index: number) => void;
  move: (by: number) => void;
}

/** The completions of a step. The arrow keys go through them. */
export function RolloutList({ page, isGrouped, chosen, choose, move }: Props) {
  const t = useT();
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const [list, row] = [box.current, box.current?.querySelector<HTMLElement>("[aria-selected=true]")];
    if (!list || !row) return;
    if (row.offsetTop < list.scrollTop) list.scrollTop = row.offsetTop;
    const below = row.offsetTop + row.offsetHeight - list.clientHeight;
    if (below > list.scrollTop) list.scrollTop = below;
  }, [chosen, page]);
  const press = (event: KeyboardEvent) => {
    const by = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(by);
  };
  const best = Math.max(...page.rollouts.map((row) => Math.abs(row.reward ?? 0)), 0);
  const row = (one: Row) => <Line key={one.index} row={one} best={best} isChosen={one.index === chosen} choose={choose} isNumbered={!isGrouped} />;
  const places = [...new Set(page.rollouts.map((one) => one.group))];
  return (
    <div className="rollout-list" ref={box} role="listbox" tabIndex={0} aria-label={t("rollouts.list")} aria-activedescendant={chosen === null ? undefined : `rollout-${chosen}`} onKeyDown={press} data-testid="rollout-list">
      {page.rollouts.length === 0 && <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={t("rollouts.noneMatch", { n: whole(page.num_rollouts) })} />}
      {!isGrouped && page.rollouts.map(row)}
      {isGrouped && places.map((place) => {
        const group = page.groups[place];
        return (
          <div key={place} role="group" aria-label={t("rollouts.promptIs", { n: place + 1 })}>
            <div className="rollout-group" data-testid="sample-group">
              <div className="rollout-prompt" title={group?.prompt}>{group?.prompt}</div>
              <div className="quiet">
                {group?.row !== null && group?.row !== undefined && `${t("rollouts.row", { n: whole(group.row) })} · `}
                {t("rollouts.reward")} {number(group?.reward, 3)} · {t("rollouts.lane.tokens")} {number(group?.tokens, 3)} · {t("rollouts.lane.diversity")} {number(group?.diversity, 2)}
              </div>
            </div>
            {page.rollouts.filter((one) => one.group === place).map(row)}
          </div>
        );
      })}
    </div>
  );
}

function Line({ row, best, isChosen, choose, isNumbered }: { row: Row; best: number; isChosen: boolean; choose: (index: number) => void; isNumbered: boolean }) {
  const t = useT();
  const share = best > 0 ? Math.abs(row.reward ?? 0) / best : 0;
  return (
    <div id={`rollout-${row.index}`} className="rollout-line" role="option" aria-selected={isChosen} onClick={() => choose(row.index)} data-testid="sample-row">
      <span className="rollout-reward">
        <i style={{ width: `${100 * share}%` }} data-below={(row.reward ?? 0) < 0} />
        <b>{number(row.reward, 3)}</b>
      </span>
      <span className="rollout-preview mono">{isNumbered && <Tag>{t("rollouts.promptIs", { n: row.group + 1 })}</Tag>}{row.preview || " "}</span>
      <span className="quiet rollout-length">{row.is_truncated && <span className="rollout-cut" title={t("samples.truncated")}>✂</span>}{number(row.length)}</span>
    </div>
  );
}
