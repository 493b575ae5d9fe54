import { useQuery } from "@tanstack/react-query";
import { Input, Modal } from "antd";
import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { useNavigate } from "react-router";
import { api, take } from "../api/client";
import { useT, type Key } from "./i18n";

const PAGES: [string, Key][] = [
  ["/", "nav.home"],
  ["/runs", "nav.runs"],
  ["/launch", "nav.launch"],
  ["/datasets", "nav.datasets"],
  ["/evaluate", "nav.evaluate"],
  ["/planner", "nav.planner"],
  ["/chat", "nav.chat"],
  ["/settings", "nav.settings"],
  ["/compare", "compare.title"],
];
const MAX_FOUND = 12;
const SETTLE_MS = 150;

/** Opens everything by name: pages, runs, datasets. */
export function Palette({ isOpen, close }: { isOpen: boolean; close: () => void }) {
  const t = useT();
  return (
    <Modal open={isOpen} onCancel={close} footer={null} closable={false} width={560} destroyOnHidden title={t("palette.title")}>
      <Search close={close} />
    </Modal>
  );
}

function Search({ close }: { close: () => void }) {
  const t = useT();
  const navigate = useNavigate();
  const [text, setText] = useState("");
  const settled = useSettled(text.trim());
  const runs = useQuery({
    queryKey: ["palette", settled],
    queryFn: () => take(api.GET("/api/jobs", { params: { query: { query: asQuery(settled), limit: MAX_FOUND } } })),
    placeholderData: (before) => before,
  });
  const datasets = useQuery({ queryKey: ["datasets"], queryFn: () => take(api.GET("/api/datasets")) });
  const has = (name: string) => name.toLowerCase().includes(text.trim().toLowerCase());
  // Until the answer to what is written now is there, only what of the last one still fits: Enter must not open another run.
  const isBehind = settled !== text.trim() || runs.isPlaceholderData;
  const found = (runs.data?.jobs ?? []).map((job) => ({ path: `/runs/${job.id}`, label: `${job.name} #${job.id}` }));
  const groups = [
    { label: t("palette.pages"), entries: PAGES.map(([path, key]) => ({ path, label: t(key) })).filter((page) => has(page.label)) },
    { label: t("nav.runs"), entries: isBehind ? found.filter((run) => has(run.label)) : found },
    { label: t("nav.datasets"), entries: (datasets.data?.versions ?? []).filter((row) => has(row.ref)).slice(0, MAX_FOUND).map((row) => ({ path: `/datasets/${row.ref}`, label: row.ref })) },
  ].filter((group) => group.entries.length > 0);
  const paths = groups.flatMap((group) => group.entries.map((entry) => entry.path));
  const [chosen, choose] = useState<string | null>(null);
  const current = chosen !== null && paths.includes(chosen) ? chosen : (paths[0] ?? null);
  const open = (path: string) => {
    close();
    void navigate(path);
  };
  const press = (event: KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by !== undefined && current !== null) {
      event.preventDefault();
      choose(paths[(paths.indexOf(current) + by + paths.length) % paths.length] ?? null);
    }
    if (event.key === "Enter" && current !== null) open(current);
  };
  return (
    <>
      <Input
        autoFocus
        role="combobox"
        aria-expanded
        aria-controls="palette-list"
        aria-activedescendant={current ?? undefined}
        aria-label={t("palette.title")}
        data-testid="palette"
        placeholder={t("palette.hint")}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          choose(null);
        }}
        onKeyDown={press}
      />
      <div id="palette-list" role="listbox" aria-label={t("palette.title")} className="palette">
        {groups.map((group) => (
          <div key={group.label} role="group" aria-label={group.label}>
            <div className="quiet" aria-hidden>{group.label}</div>
            {group.entries.map((entry) => (
              <Choice key={entry.path} {...entry} isCurrent={entry.path === current} open={open} />
            ))}
          </div>
        ))}
        {paths.length === 0 && <div className="quiet">{t("palette.none")}</div>}
      </div>
    </>
  );
}

function Choice({ path, label, isCurrent, open }: { path: string; label: string; isCurrent: boolean; open: (path: string) => void }) {
  const row = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (isCurrent) row.current?.scrollIntoView({ block: "nearest" });
  }, [isCurrent]);
  return (
    <div id={path} ref={row} role="option" aria-selected={isCurrent} onMouseDown={(event) => event.preventDefault()} onClick={() => open(path)}>
      {label}
    </div>
  );
}

/** A number is the run's; anything else is words. */
function asQuery(text: string): string {
  if (/^#?\d+$/.test(text)) return `id:${text.replace("#", "")}`;
  return text.startsWith("/") ? "" : text.replace(/[^\p{L}\p{N}._ -]/gu, " ").trim();
}

function useSettled(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(text), SETTLE_MS);
    return () => window.clearTimeout(timer);
  }, [text]);
  return settled;
}
