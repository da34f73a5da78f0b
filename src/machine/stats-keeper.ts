/**
 * Counts what one machine costs, over all its sessions.
 *
 * The swarm counts what it transferred of an image since the daemon started, and a disk's thread counts how long its
 * guest waited since the disk was opened. So a session is: what the swarm has now, less what it had when the disk was
 * opened, and the thread's last report. When the disk is closed, or dies, the session joins the earlier ones.
 *
 * Owns: the sum of the earlier sessions, and the machine's stats.json (machine-stats.ts).
 */
import type { MachineComponents } from './components.ts'
import { addStats, type MachineStats, noStats, readStats, writeStats } from './machine-stats.ts'
import type { DiskReport } from './served-disk.ts'

interface CountedMachine {
  name: string
  folder: string
  image: string
}

export class StatsKeeper {
  readonly #components: Pick<MachineComponents, 'swarm' | 'log'>
  readonly #machine: CountedMachine
  /** Of all sessions before this one. */
  #earlier: MachineStats
  /** What the swarm had transferred of the image when the disk was opened. */
  #transferredBefore = noStats().fetched
  #savedText = ''

  constructor(components: Pick<MachineComponents, 'swarm' | 'log'>, machine: CountedMachine) {
    this.#components = components
    this.#machine = machine
    this.#earlier = readStats(machine.folder, components.log)
  }

  /** To be called before the disk is opened: what is fetched from now on is the session's. */
  begins(): void {
    this.#transferredBefore = { ...this.#components.swarm.transfers(this.#machine.image) }
  }

  /** @param last - the last report of the disk's thread; undefined: there was none, and the session counts nothing */
  ends(last: DiskReport | undefined): void {
    this.#earlier = this.with(last)
    this.#transferredBefore = noStats().fetched
  }

  /** All sessions with the one of this report; without one, the earlier sessions. */
  with(report: DiskReport | undefined): MachineStats {
    if (report === undefined) return this.#earlier
    const { waitedMs, longestWaitMs, waitedReads } = report
    const now = this.#components.swarm.transfers(this.#machine.image)
    const before = this.#transferredBefore
    return addStats(this.#earlier, {
      fetched: {
        blocks: now.blocks - before.blocks,
        bytes: now.bytes - before.bytes,
        wireBytes: now.wireBytes - before.wireBytes
      },
      waited: { seconds: waitedMs / 1000, longestMs: longestWaitMs, reads: waitedReads }
    })
  }

  /** Writes the numbers down; what cannot be written is logged, for they are only advice. */
  save(report: DiskReport | undefined): void {
    const stats = this.with(report)
    const text = JSON.stringify(stats)
    if (text === this.#savedText) return
    const { folder, name } = this.#machine
    try {
      writeStats(folder, stats)
      this.#savedText = text
    } catch (error) {
      this.#components.log.warn('the numbers of a machine could not be kept', { machine: name, error })
    }
  }
}
