import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, Modal, Select, Space, Typography } from "antd";
import { useState } from "react";
import { api, take, type JobDetail } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { RelativeTime } from "../../ui/RelativeTime";

const DAYS = [1, 7, 30, 90] as const;

/** Makes links with which others can read this run, and withdraws them. */
export function ShareDialog({ job, isOpen, close }: { job: JobDetail; isOpen: boolean; close: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const [days, setDays] = useState<number>(7);
  const key = ["shares", job.id];
  const shares = useQuery({
    queryKey: key,
    queryFn: () => take(api.GET("/api/shares", { params: { query: { job_id: job.id } } })),
    enabled: isOpen,
  });
  const refresh = () => renew(queries, key);
  const make = useMutation({
    mutationFn: () => take(api.POST("/api/shares", { body: { job_id: job.id, days } })),
    onSuccess: refresh,
  });
  const withdraw = useMutation({
    mutationFn: (id: number) => take(api.DELETE("/api/shares/{share_id}", { params: { path: { share_id: id } } })),
    onSuccess: refresh,
  });
  const error = make.error ?? withdraw.error ?? shares.error;
  const open = shares.data?.shares ?? [];
  const isShown = make.data && open.some((share) => share.id === make.data.id);
  return (
    <Modal open={isOpen} onCancel={close} footer={null} title={t("share.title")} width={560} afterClose={make.reset}>
      <p>{t("share.why")}</p>
      <Space>
        <Select
          aria-label={t("share.lifetime")}
          value={days}
          onChange={setDays}
          options={DAYS.map((value) => ({ value, label: t("share.days", { n: value }) }))}
        />
        <Button type="primary" loading={make.isPending} onClick={() => make.mutate()} data-testid="share-make">{t("share.make")}</Button>
      </Space>
      {error && <ErrorCard error={error} />}
      {isShown && (
        <p>
          <Typography.Text copyable={{ text: make.data.link }}><code data-testid="share-link">{make.data.link}</code></Typography.Text>
          <br />
          <span className="quiet">{t("share.once")}</span>
        </p>
      )}
      {open.length > 0 && (
        <ul className="lines share-list" aria-label={t("share.open")}>
          {open.map((share) => (
            <li key={share.id} className="share">
              <span>{t("share.made")} <RelativeTime moment={share.created_at} />, {t("share.ends")} <RelativeTime moment={share.expires_at} /></span>
              <Button size="small" onClick={() => withdraw.mutate(share.id)} loading={withdraw.isPending && withdraw.variables === share.id}>{t("share.withdraw")}</Button>
            </li>
          ))}
        </ul>
      )}
    </Modal>
  );
}
