import { Input, Select, Space, Switch } from "antd";
import { useEffect, useMemo, useRef, useState } from "react";
import { api, take, type JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { useDark } from "../../app/theme";
import { colourPieces, foldLines } from "./logText";

const POLL_MS = 1000;
const FIRST_BYTES = 256 * 1024;
const MAX_CHARACTERS = 2_000_000;
const MAX_LINES = 5000;

/** The output of the child: follows, searches, shows colours. */
export function LogsTab({ job }: { job: JobDetail }) {
  const t = useT();
  const isDark = useDark();
  const [attempt, setAttempt] = useState<number | undefined>();
  const [search, setSearch] = useState("");
  const [isFollowing, setFollowing] = useState(true);
  const text = useLog(job, attempt ?? job.attempt);
  const box = useRef<HTMLDivElement>(null);
  const lines = useMemo(() => {
    const all = foldLines(text);
    const wanted = search ? all.filter((line) => line.toLowerCase().includes(search.toLowerCase())) : all;
    return wanted.slice(-MAX_LINES);
  }, [text, search]);
  useEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, isFollowing]);
  return (
    <>
      <Space className="bar" wrap data-search>
        <Input allowClear aria-label={t("logs.search")} placeholder={t("logs.search")} value={search} onChange={(event) => setSearch(event.target.value)} style={{ width: 280 }} />
        {search && <span>{t("logs.matches", { n: lines.length })}</span>}
        <label><Switch size="small" checked={isFollowing} onChange={setFollowing} aria-label={t("logs.follow")} /> {t("logs.follow")}</label>
        {job.attempts.length > 1 && (
          <Select
            aria-label={t("col.attempt")}
            value={attempt ?? job.attempt}
            onChange={setAttempt}
            options={job.attempts.map((row) => ({ value: row.number, label: t("run.attempt", { n: row.number }) }))}
          />
        )}
      </Space>
      <div ref={box} className="log mono" data-testid="log-view" tabIndex={0} style={{ background: isDark ? "#0a0d0f" : "#ffffff", border: "1px solid rgba(128,128,128,0.25)" }}>
        {text === "" ? t("logs.empty") : lines.map((line, index) => <Line key={index} line={line} />)}
      </div>
    </>
  );
}

function Line({ line }: { line: string }) {
  const pieces = colourPieces(line);
  return (
    <div className="text">
      {pieces.length === 0 ? "\u00a0" : pieces.map((piece, index) => (
        <span key={index} style={{ color: piece.colour, fontWeight: piece.isBold ? 600 : undefined }}>{piece.text}</span>
      ))}
    </div>
  );
}

/** The output of one attempt, growing while it runs. */
function useLog(job: JobDetail, attempt: number): string {
  const [text, setText] = useState("");
  const isActive = !["completed", "failed", "cancelled", "paused"].includes(job.state);
  useEffect(() => {
    if (attempt === 0) return;
    let isOver = false;
    let offset = -FIRST_BYTES;
    let timer = 0;
    let gathered = "";
    const read = async () => {
      try {
        const page = await take(
          api.GET("/api/jobs/{job_id}/logs", { params: { path: { job_id: job.id }, query: { attempt, offset, max_bytes: FIRST_BYTES } } }),
        );
        if (isOver) return;
        offset = page.next_offset;
        gathered = (gathered + page.text).slice(-MAX_CHARACTERS);
        setText(gathered);
        if (offset < page.num_bytes) return void read();
      } catch {
        // The banner says that the server does not answer; the next turn tries again.
      }
      if (!isOver && isActive) timer = window.setTimeout(() => void read(), POLL_MS);
    };
    void read();
    return () => {
      isOver = true;
      window.clearTimeout(timer);
    };
  }, [job.id, attempt, isActive]);
  return text;
}
