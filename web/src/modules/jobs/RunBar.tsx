import { useQuery } from "@tanstack/react-query";
import { Button, Input, Popover, Select, Space, Switch } from "antd";
import { useEffect, useRef, useState } from "react";
import { api, take, type Job } from "../../api/client";
import { useT } from "../../app/i18n";
import { STATE_STATUS } from "../../ui/colours";
import { FilterBuilder } from "./FilterBuilder";
import { withCondition } from "./query";
import { SavedViews } from "./SavedViews";
import type { ChangeView, View } from "./useView";

const SEARCH_AFTER_MS = 250;

interface Props {
  view: View;
  change: ChangeView;
  address: string;
}

/** Everything that decides which runs are shown, and how. */
export function RunBar({ view, change, address }: Props) {
  const t = useT();
  const fields = useQuery({ queryKey: ["fields"], queryFn: () => take(api.GET("/api/jobs/fields")), staleTime: 30_000 });
  const [isFiltering, setFiltering] = useState(false);
  const found = fields.data ?? { fields: [], settings: [], metrics: [] };
  const shown = [
    { label: t("bar.metrics"), options: found.metrics.map((value) => ({ value, label: value })) },
    { label: t("bar.settings"), options: found.settings.map((value) => ({ value, label: value })) },
  ];
  return (
    <div className="bar" data-search>
      <SearchField value={view.query} change={(query) => change({ query })} />
      <Popover
        open={isFiltering}
        onOpenChange={setFiltering}
        trigger="click"
        placement="bottomLeft"
        content={
          <FilterBuilder
            fields={found}
            add={(condition) => {
              change({ query: withCondition(view.query, condition) });
              setFiltering(false);
            }}
          />
        }
      >
        <Button data-testid="add-filter">{t("bar.filter")}</Button>
      </Popover>
      <Select
        mode="multiple"
        allowClear
        aria-label={t("runs.state")}
        placeholder={t("runs.state")}
        value={view.states}
        onChange={(states: string[]) => change({ states })}
        maxTagCount="responsive"
        style={{ width: 150 }}
        options={(Object.keys(STATE_STATUS) as Job["state"][]).map((value) => ({ value, label: t(`state.${value}`) }))}
      />
      <Select
        mode="multiple"
        allowClear
        showSearch
        aria-label={t("bar.columns")}
        placeholder={t("bar.columns")}
        data-testid="pick-columns"
        value={view.columns}
        onChange={(columns: string[]) => change({ columns })}
        maxTagCount={0}
        maxTagPlaceholder={(hidden) => t("bar.moreColumns", { n: hidden.length })}
        popupMatchSelectWidth={340}
        style={{ width: 150 }}
        options={shown}
      />
      <Select
        allowClear
        showSearch
        aria-label={t("bar.group")}
        placeholder={t("bar.group")}
        data-testid="group-by"
        value={view.group || null}
        onChange={(group: string | undefined) => change({ group: group ?? "", metric: view.metric || (found.metrics[0] ?? "") })}
        popupMatchSelectWidth={340}
        style={{ width: 150 }}
        options={[{ label: t("bar.settings"), options: found.settings.map((value) => ({ value, label: value })) }, { label: t("bar.fields"), options: ["model", "data", "kind", "state", "pipeline", "host"].map((value) => ({ value, label: value })) }]}
      />
      {view.group && (
        <Select
          showSearch
          aria-label={t("bar.metric")}
          value={view.metric || null}
          onChange={(metric: string) => change({ metric })}
          style={{ width: 150 }}
          options={found.metrics.map((value) => ({ value, label: value }))}
        />
      )}
      <Space>
        <SavedViews address={address} />
        <label><Switch size="small" checked={view.isArchive} onChange={(isArchive) => change({ isArchive, picked: [] })} aria-label={t("bar.archive")} /> {t("bar.archive")}</label>
      </Space>
    </div>
  );
}

/** Goes into the address a moment after the last key. */
function SearchField({ value, change }: { value: string; change: (value: string) => void }) {
  const t = useT();
  const [text, setText] = useState(value);
  const told = useRef(value);
  useEffect(() => {
    if (value !== told.current) {
      told.current = value;
      setText(value);
    }
  }, [value]);
  useEffect(() => {
    if (text.trim() === told.current) return;
    const timer = window.setTimeout(() => {
      told.current = text.trim();
      change(told.current);
    }, SEARCH_AFTER_MS);
    return () => window.clearTimeout(timer);
    // Only a key press starts the clock: `change` is a new function on each render.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [text]);
  return (
    <Input
      type="search"
      allowClear
      placeholder={t("runs.search")}
      aria-label={t("runs.search")}
      title={t("bar.language")}
      data-testid="run-query"
      value={text}
      onChange={(event) => setText(event.target.value)}
      onKeyDown={(event) => {
        if (event.key === "Escape") event.currentTarget.blur();
      }}
      style={{ width: 340 }}
    />
  );
}
