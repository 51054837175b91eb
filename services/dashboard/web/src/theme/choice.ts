type Name = "theme" | "language" | "reviewer" | "correction" | "changes-seen";

/** What the person chose earlier on this browser; null when nothing, or when storage is forbidden. */
export function readChoice(name: Name): string | null {
  try {
    return localStorage.getItem(`sightline.${name}`);
  } catch {
    return null;
  }
}

export function storeChoice(name: Name, value: string): void {
  try {
    localStorage.setItem(`sightline.${name}`, value);
  } catch {
    // The choice then lasts until the page is closed.
  }
}
