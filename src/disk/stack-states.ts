/**
 * The layers of a disk as if they were one map: whether the layers have a sector's data, say that it is zero, or leave
 * it to the image. A run may end before the next sector differs; who wants to know looks on from there.
 */
import type { SectorStates } from './disk-extents.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO, type SectorState } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import { CODE_ABSENT, CODE_ZERO } from './owner-page.ts'

export class StackStates implements SectorStates {
  readonly #stack: LayerStack

  constructor(stack: LayerStack) {
    this.#stack = stack
  }

  stateAt(sector: number): SectorState {
    const { top, frozen } = this.#stack
    const state = top.map.stateAt(sector)
    if (state !== SECTOR_ABSENT || frozen === undefined) return state
    const code = frozen.find(sector, sector + 1)
    if (code === CODE_ABSENT) return SECTOR_ABSENT
    return code === CODE_ZERO ? SECTOR_ZERO : SECTOR_DATA
  }

  runEnd(sector: number, end: number): number {
    const { top, frozen } = this.#stack
    const runEnd = top.map.runEnd(sector, end)
    if (frozen === undefined || top.map.stateAt(sector) !== SECTOR_ABSENT) return runEnd
    frozen.find(sector, runEnd)
    return frozen.end
  }
}
