/**
 * Where a disk gets a block that is not here. The swarm implements it; a test may too.
 */

/** In the order in which they are served: a guest waits for `demand`; `fill` completes an image in the background. */
export const PRIORITIES = ['demand', 'read-ahead', 'profile', 'fill'] as const
export type Priority = (typeof PRIORITIES)[number]

/**
 * A verified block: in the pool at `slot`; or as bytes (64 KiB), when the pool could not keep it, or a guest has it sooner. The bytes
 * belong to whoever asked.
 */
export type ObtainedBlock = { slot: number } | { bytes: Uint8Array }

export interface WantOptions {
  signal?: AbortSignal
  /** A wish: the block was evicted before whoever asks could read its slot, and more than once. */
  asBytes?: boolean
}

export interface BlockSource {
  /**
   * Resolves once the block was verified. Waits for a replica as long as it takes: a guest rather waits than sees an
   * I/O error. Rejects with ABORTED when `signal` fires and with DISK_CLOSED when the source stops.
   */
  want(image: string, block: number, priority: Priority, options?: WantOptions): Promise<ObtainedBlock>
}
