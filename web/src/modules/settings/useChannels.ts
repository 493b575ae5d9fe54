/** Channels and what was told through them, and what can be done with them. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { createElement, useState } from "react";
import { api, take } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";

const POLL_MS = 5000;
const UNDO_MS = 8000;
const SHOWN = 50;

export function useChannels() {
  return useQuery({ queryKey: ["channels"], queryFn: () => take(api.GET("/api/channels")), refetchInterval: POLL_MS });
}

export function useKinds() {
  return useQuery({ queryKey: ["channel-kinds"], queryFn: () => take(api.GET("/api/channels/kinds")), staleTime: Infinity });
}

export function useDeliveries() {
  return useQuery({
    queryKey: ["deliveries"],
    queryFn: () => take(api.GET("/api/deliveries", { params: { query: { limit: SHOWN } } })),
    refetchInterval: POLL_MS,
  });
}

/** Switches a channel on or off. */
export function useSwitch() {
  const t = useT();
  const queries = useQueryClient();
  const { notification } = App.useApp();
  return useMutation({
    mutationFn: ({ name, isOn }: { name: string; isOn: boolean }) => take(api.PATCH("/api/channels/{name}", { params: { path: { name } }, body: { is_enabled: isOn } })),
    onSettled: () => renew(queries, ["channels"]),
    onError: (error) => notification.error({ title: t("error.title"), description: error.message || t("error.unreachable") }),
  });
}

export function useTrial() {
  return useMutation({ mutationFn: (name: string) => take(api.POST("/api/channels/{name}/test", { params: { path: { name } } })) });
}

/**
 * Removes a channel once nobody has taken that back for a few seconds: its secrets could not be brought back. Who closes
 * the page before keeps it.
 */
export function useRemove() {
  const t = useT();
  const queries = useQueryClient();
  const { notification } = App.useApp();
  const [leaving, setLeaving] = useState<string[]>([]);
  const remove = (name: string) => {
    const key = `remove-${name}`;
    const stay = () => setLeaving((before) => before.filter((other) => other !== name));
    setLeaving((before) => [...before, name]);
    const timer = window.setTimeout(() => {
      take(api.DELETE("/api/channels/{name}", { params: { path: { name } } }))
        .catch((error: Error) => notification.error({ title: t("error.title"), description: error.message || t("error.unreachable") }))
        .then(() => renew(queries, ["channels"]))
        .then(stay, stay);
    }, UNDO_MS);
    const takeBack = () => {
      window.clearTimeout(timer);
      notification.destroy(key);
      stay();
    };
    const button = createElement(Button, { size: "small", onClick: takeBack }, t("edit.undo"));
    notification.success({ key, title: t("settings.removed", { name }), actions: button, duration: UNDO_MS / 1000, placement: "bottomRight" });
  };
  return { leaving, remove };
}
