import { useCallback } from "react";
import { fetchVersion, type ModelVersion } from "../api/models";
import { useAsked, type Asked } from "./useAsked";

const kept = new Map<string, ModelVersion>();

/** What a version is; it never changes, so it is asked for once. */
export function useVersion(alias: string, version: number): Asked<ModelVersion> {
  const ask = useCallback(
    async (signal: AbortSignal) => {
      const key = `${alias}/${version}`;
      const found = kept.get(key) ?? (await fetchVersion(alias, version, signal));
      kept.set(key, found);
      return found;
    },
    [alias, version],
  );
  return useAsked(ask, null);
}
