/**
 * What the thread of a disk and the main thread say to each other. Small messages: the data itself lies in the pool's
 * files, and where in shared memory. Only a block that a guest waits for and that is not stored yet, or never stays stored for long
 * enough, comes in one, without being copied.
 *
 * | from the disk | answered with | at most at a time |
 * |---|---|---|
 * | want | came or notCame | MAX_WANTS; the rest wait in the disk's thread, demand first |
 * | suspect | – | one for each failed read |
 * | letGo | – | one: the next epoch is told after it |
 * | notes | notesTaken | one batch; of the rest MAX_NOTES and MAX_TOUCHES are kept |
 *
 * | to the disk | answered with | at most at a time |
 * |---|---|---|
 * | pages | – | each page once, and again after it was given up |
 * | retired | letGo | one: what comes meanwhile becomes one message |
 * | call | answer or failed | MAX_CALLS |
 */
import type { ObtainedBlock, Priority } from '../store/block-source.ts'
import type { SharedImage } from '../store/slot-view.ts'
import type { PackedError } from './packed-error.ts'
import type { DiskCalls, ServedDiskSettings } from './served-disk.ts'

/** Blocks asked for and not answered: as many as a peer may ask its replicas for. */
export const MAX_WANTS = 1024
export const MAX_CALLS = 64
/** Lines of the log that wait while a batch of them is on its way; what is beyond is counted. */
export const MAX_NOTES = 256
/** First touches of blocks that wait likewise; what is beyond is lost: they are advice. */
export const MAX_TOUCHES = 65_536

/** What a thread is started with. */
export interface DiskThreadInput {
  image: SharedImage
  pages: SentPage[]
  poolFolder: string
  bootId: string
  settings: ServedDiskSettings
}

export interface SentPage {
  page: number
  /** Over shared memory. */
  slots: Int32Array
}

export type DiskCall = keyof DiskCalls
/** The opening of the disk is answered like a call with this number, with an OpenedDisk. */
export const OPENING = 0

export interface OpenedDisk {
  dataBytes: number | undefined
}

export interface LogNote {
  level: 'debug' | 'info' | 'warn'
  message: string
  values: [name: string, value: unknown][]
}

export type FromDisk =
  | { type: 'want'; want: number; block: number; priority: Priority; asBytes: boolean }
  | { type: 'unwant'; want: number }
  | { type: 'suspect'; block: number }
  | { type: 'letGo'; epoch: number }
  | {
      type: 'notes'
      log: LogNote[]
      lostLines: number
      touches: [block: number, sinceAttachMs: number, inBlock: number][]
    }
  | { type: 'answer'; call: number; value: unknown }
  | { type: 'failed'; call: number; error: PackedError }

export type ToDisk =
  | { type: 'pages'; pages: SentPage[] }
  | { type: 'retired'; epoch: number; segments: number[] }
  | { type: 'came'; want: number; obtained: ObtainedBlock }
  | { type: 'notCame'; want: number; error: PackedError }
  | { type: 'notesTaken' }
  | { type: 'call'; call: number; name: DiskCall; parameters: unknown[] }
