/**
 * What changes a machine's disk, once it is checked: writes and zeros, in whole sectors, on its top.
 *
 * Nothing is copied up, and the bytes around a write need not be here. Only a request that begins or ends inside a sector (a
 * client that ignores the minimum block size, a disk whose size is no multiple of 512) reads that sector first. If it has to
 * wait for it, or for room in the layer's log, it holds its sectors meanwhile, and later changes of them queue behind it
 * (range-queue.ts). A change that need not wait is done when the call returns, and nothing is allocated for it.
 *
 * Zeros are a matter of the map alone; their space is given back later (hole-puncher.ts), unless it is to stay.
 *
 * Owns: the changes that are under way, and the space to be given back. The top is the stack's, and another one after a
 * snapshot: whoever waited asks for it anew.
 */
import type { Log } from '../environment.ts'
import { allDone } from './all-done.ts'
import { HolePuncher } from './hole-puncher.ts'
import type { Layer } from './layer.ts'
import { endSector, SECTOR_BYTES, sectorOf } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import type { PunchHoles } from './punch-tool.ts'
import { RangeQueue } from './range-queue.ts'

/** Runs `work` while changes of the machine's disks wait, and those that were under way are done. */
export type Hold = <T>(work: () => Promise<T>) => Promise<T>

/** So often somebody who wants a moment without changes waits for those under way, before new ones have to wait for it. */
const PATIENT_ROUNDS = 8

export interface DiskChangesComponents {
  sizeBytes: number
  stack: LayerStack
  /** Fills `target` with the disk's bytes from `offset` on. */
  read: (offset: number, target: Uint8Array) => void | Promise<void>
  /** Without it space stays allocated. */
  punch: PunchHoles | undefined
  /** See HolePuncherComponents. */
  leaveHoles: (layer: Layer, start: number, end: number) => void
  log: Log
}

export class DiskChanges {
  readonly #sizeBytes: number
  readonly #stack: LayerStack
  readonly #read: DiskChangesComponents['read']
  readonly #underWay = new RangeQueue()
  readonly #puncher: HolePuncher | undefined

  constructor({ sizeBytes, stack, read, punch, leaveHoles, log }: DiskChangesComponents) {
    this.#sizeBytes = sizeBytes
    this.#stack = stack
    this.#read = read
    if (punch !== undefined) {
      this.#puncher = new HolePuncher({ changes: this.#underWay, punch, top: () => this.#top, leave: leaveHoles, log })
    }
  }

  /** `data` is not empty, and within the disk. Done when it returns, or when the promise is. Errors as `Layer.writeSync`. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    const end = offset + data.length
    if (offset % SECTOR_BYTES !== 0 || (end % SECTOR_BYTES !== 0 && end !== this.#sizeBytes)) {
      return this.#merge(offset, data)
    }
    const { top } = this.#stack
    if (top.hasRoom && this.#underWay.isFree(sectorOf(offset), endSector(end))) return top.writeSync(offset, data)
    return this.#change(offset, end, nothing, layer => layer.writeSync(offset, data))
  }

  /** Whole sectors become zero in the map; the partial ones at the ends are written. The range is not empty. */
  zero(offset: number, end: number, mayPunch: boolean): void | Promise<void> {
    const firstWhole = endSector(offset)
    const lastWhole = end === this.#sizeBytes ? endSector(end) : sectorOf(end)
    if (firstWhole >= lastWhole) return this.#merge(offset, new Uint8Array(end - offset))
    const start = firstWhole * SECTOR_BYTES
    const stop = Math.min(lastWhole * SECTOR_BYTES, end)
    const steps = [
      () => this.#change(start, stop, nothing, layer => this.#zeroSync(layer, firstWhole, lastWhole, mayPunch))
    ]
    if (offset < start) steps.push(() => this.#merge(offset, new Uint8Array(start - offset)))
    if (stop < end) steps.push(() => this.#merge(stop, new Uint8Array(end - stop)))
    return inTurn(steps)
  }

  /** Runs `work` while no change is under way and all that are asked for wait. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const all = endSector(this.#sizeBytes)
    const resume = this.#puncher?.pause()
    let result: T | undefined
    try {
      // One that waits for the network should not make the others wait for it, too; but a guest may always have one that does.
      for (let round = 0; round < PATIENT_ROUNDS && !this.#underWay.isFree(0, all); round++) await this.#underWay.idle()
      await this.#underWay.run(0, all, async () => {
        result = await work()
      })
    } finally {
      resume?.()
    }
    return result as T
  }

  /** Done when everything that is under way now is, and all space was given back that is to be. */
  async idle(): Promise<void> {
    await this.#underWay.idle()
    await this.#puncher?.idle()
  }

  get #top(): Layer {
    return this.#stack.top
  }

  /** A write that begins or ends inside a sector: its sectors as a whole, with what is around it as it was. */
  #merge(offset: number, data: Uint8Array): void | Promise<void> {
    const end = offset + data.length
    const start = sectorOf(offset) * SECTOR_BYTES
    const merged = new Uint8Array(Math.min(endSector(end) * SECTOR_BYTES, this.#sizeBytes) - start)
    const readEdges = () => this.#readEdges(offset, end, start, merged)
    return this.#change(offset, end, readEdges, layer => {
      merged.set(data, offset - start)
      layer.writeSync(start, merged)
    })
  }

  /** Reads the first and the last sector of a range where only a part of them is in it. */
  #readEdges(offset: number, end: number, start: number, merged: Uint8Array): void | Promise<void> {
    const readSector = (sector: number) => {
      const at = sector * SECTOR_BYTES - start
      return this.#read(sector * SECTOR_BYTES, merged.subarray(at, at + SECTOR_BYTES))
    }
    const edges: number[] = []
    const last = endSector(end) - 1
    const cutsLast = end % SECTOR_BYTES !== 0 && end !== this.#sizeBytes
    if (offset % SECTOR_BYTES !== 0) edges.push(sectorOf(offset))
    if (cutsLast && (last !== sectorOf(offset) || offset % SECTOR_BYTES === 0)) edges.push(last)
    return inTurn(edges.map(sector => () => readSector(sector)))
  }

  #zeroSync(top: Layer, start: number, end: number, mayPunch: boolean): void {
    const puncher = mayPunch && HolePuncher.isWorthIt(top.map, start, end) ? this.#puncher : undefined
    top.zeroSync(start, end)
    puncher?.add(top, start, end)
  }

  /**
   * Makes a change once `prepare` is done, the layer has room, and no earlier change of these sectors is under way; at
   * once if nothing has to be waited for.
   */
  #change(
    offset: number,
    end: number,
    prepare: () => void | Promise<void>,
    commit: (top: Layer) => void
  ): void | Promise<void> {
    const start = sectorOf(offset)
    const stop = endSector(end)
    const commitWithRoom = async () => {
      while (!this.#top.hasRoom) await this.#top.makeRoom()
      commit(this.#top)
      this.#top.settle()
    }
    if (!this.#underWay.isFree(start, stop)) {
      return this.#underWay.run(start, stop, async () => {
        await prepare()
        await commitWithRoom()
      })
    }
    const preparing = prepare()
    if (preparing === undefined && this.#top.hasRoom) {
      commit(this.#top)
      return
    }
    return this.#underWay.run(start, stop, async () => {
      await preparing
      await commitWithRoom()
    })
  }
}

function nothing(): void {}

/** Begins each step; done when all that began are, with the first error. A step that throws at once ends the row. */
function inTurn(steps: (() => void | Promise<void>)[]): void | Promise<void> {
  const pending: Promise<void>[] = []
  try {
    for (const step of steps) {
      const done = step()
      if (done !== undefined) pending.push(done)
    }
  } catch (error) {
    if (pending.length === 0) throw error
    pending.push(Promise.reject(error))
  }
  if (pending.length > 0) return allDone(pending)
}
