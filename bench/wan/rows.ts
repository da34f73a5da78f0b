/**
 * What a row of the wan bench is, and what it gives.
 */
import type { BootTrace, FirstTouch } from './trace.ts'
import type { World } from './world.ts'

/** One figure with the goal that it is held against. */
export interface Figure {
  name: string
  value: number
  /** The most that is wanted; undefined where the figure only explains others. */
  atMost?: number
  atLeast?: number
  unit: string
}

export interface RowContext {
  world: World
  v1: string
  v2: string
  trace: BootTrace
  touches: FirstTouch[]
}

export interface Row {
  name: string
  /** For a person who chooses rows. */
  about: string
  /** Whether the release is to have a boot profile. */
  needsProfile?: boolean
  measure(context: RowContext): Promise<Figure[]>
}
