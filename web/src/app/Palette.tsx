import { useQuery } from "@tanstack/react-query";
import { AutoComplete, Modal } from "antd";
import { useEffect, useState } from "react";
import { useNavigate } from "react-router";
import { api, take } from "../api/client";
import { useT, type Key } from "./i18n";

const PAGES: [string, Key][] = [
  ["/", "nav.home"],
  ["/runs", "nav.runs"],
  ["/launch", "nav.launch"],
  ["/datasets", "nav.datasets"],
  ["/evaluate", "nav.evaluate"],
  ["/chat", "nav.chat"],
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
  const found = (runs.data?.jobs ?? []).map((job) => ({ value: `/runs/${job.id}`, label: `${job.name} #${job.id}` }));
  const groups = [
    { label: t("palette.pages"), options: PAGES.map(([path, key]) => ({ value: path, label: t(key) })).filter((page) => has(page.label)) },
    { label: t("nav.runs"), options: isBehind ? found.filter((run) => has(run.label)) : found },
    { label: t("nav.datasets"), options: (datasets.data?.versions ?? []).filter((row) => has(row.ref)).slice(0, MAX_FOUND).map((row) => ({ value: `/datasets/${row.ref}`, label: row.ref })) },
  ];
  return (
    <AutoComplete
      autoFocus
      open
      defaultActiveFirstOption
      aria-label={t("palette.title")}
      data-testid="palette"
      style={{ width: "100%" }}
      placeholder={t("palette.hint")}
      value={text}
      onChange={setText}
      onSelect={(path: string) => {
        close();
        void navigate(path);
      }}
      options={groups.filter((group) => group.options.length > 0)}
      listHeight={360}
    />
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
