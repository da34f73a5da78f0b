/**
 * How much of its owner's line this peer takes, and when: the settings, and what `rowan limit` changed.
 *
 * A change holds at once, and after a restart too, until it is changed again or given up with --reset: whoever says that the line is
 * metered does not expect that to be forgotten. It is kept in the catalog and goes before the configuration file, field by field.
 *
 * Outside the hours, and on a metered line, it is quiet: only what a guest waits for, and what it reads on to, is fetched, and only
 * peers on the local network are served.
 *
 * Owns: what was changed, and the timer that looks at the clock. Does not own: the limits themselves (swarm/traffic-limits.ts).
 */
import type { Clock, Log, Timer } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'
import type { TrafficLimits } from '../swarm/swarm.ts'
import { formatHours, isWithin, parseHours, parseHoursList } from './hours.ts'
import type { Settings } from './settings.ts'
import { parseRate } from './units.ts'

/** What may be changed, as it is written. */
export interface TrafficChange {
  maxUpload?: string
  maxDownload?: string
  hours?: string
  metered?: boolean
}

export interface TrafficState {
  /** Bytes a second; null for no limit. */
  maxUpload: number | null
  maxDownload: number | null
  /** To peers beyond the local network, of images that are here for machines alone. */
  maxCourtesyUpload: number | null
  /** "always", or pieces of the day. */
  hours: string
  metered: boolean
  /** Whether it is quiet now. */
  quiet: boolean
  /** The names of what does not come from the configuration. */
  changed: string[]
}

export interface TrafficComponents {
  catalog: Catalog
  swarm: { limit(limits: TrafficLimits): void }
  /** Minutes since midnight, local time. */
  minuteOfDay: () => number
  clock: Clock
  log: Log
}

const TABLE = 'limits'
const KEY = 'traffic'
const LOOK_MS = 30_000

export class Traffic {
  readonly #components: TrafficComponents
  readonly #settings: Settings['swarm']
  readonly #table: Table<TrafficChange>
  #changes: TrafficChange
  #timer: Timer | undefined
  #applied = ''

  /**
   * Reads what was changed before, and puts it in force.
   *
   * @throws RowanError CONFIG_INVALID for hours that are none
   */
  static async open(components: TrafficComponents, settings: Settings['swarm']): Promise<Traffic> {
    try {
      settings.hours.map(parseHours)
    } catch (cause) {
      throw new RowanError('CONFIG_INVALID', `[swarm] hours: ${(cause as Error).message}`, { cause })
    }
    const table = components.catalog.table(TABLE, jsonCodec<TrafficChange>())
    let changes = (await table.get(KEY)) ?? {}
    try {
      checkChange(changes)
    } catch (error) {
      components.log.warn('limits that cannot be read are forgotten', { error: String(error) })
      changes = {}
    }
    return new Traffic(components, settings, table, changes)
  }

  private constructor(
    components: TrafficComponents,
    settings: Settings['swarm'],
    table: Table<TrafficChange>,
    changes: TrafficChange
  ) {
    this.#components = components
    this.#settings = settings
    this.#table = table
    this.#changes = changes
    this.#look()
  }

  stop(): void {
    this.#timer?.cancel()
  }

  show(): TrafficState {
    const { hours, metered, limits } = this.#now()
    const orNull = (rate: number) => (Number.isFinite(rate) ? rate : null)
    return {
      maxUpload: orNull(limits.maxUploadBytesPerSecond),
      maxDownload: orNull(limits.maxDownloadBytesPerSecond),
      maxCourtesyUpload: orNull(limits.maxCourtesyBytesPerSecond),
      hours: formatHours(hours),
      metered,
      quiet: limits.quiet,
      changed: Object.keys(this.#changes)
    }
  }

  /**
   * @param reset - whether what was changed before is given up first
   * @throws RowanError LIMIT_INVALID
   */
  async change(change: TrafficChange, reset: boolean): Promise<TrafficState> {
    checkChange(change)
    const changes = { ...(reset ? {} : this.#changes), ...change }
    await this.#table.put(KEY, changes)
    this.#changes = changes
    this.#apply()
    return this.show()
  }

  #now() {
    const { maxUpload, maxDownload, hours: changedHours, metered: changedMetered } = this.#changes
    const settings = this.#settings
    const hours = changedHours === undefined ? settings.hours.map(parseHours) : parseHoursList(changedHours)
    const metered = changedMetered ?? settings.metered === 'yes'
    const limits: TrafficLimits = {
      maxUploadBytesPerSecond: maxUpload === undefined ? settings.maxUploadBytesPerSecond : parseRate(maxUpload),
      maxCourtesyBytesPerSecond: settings.maxCourtesyUploadBytesPerSecond,
      maxDownloadBytesPerSecond:
        maxDownload === undefined ? settings.maxDownloadBytesPerSecond : parseRate(maxDownload),
      quiet: metered || !isWithin(hours, this.#components.minuteOfDay())
    }
    return { hours, metered, limits }
  }

  /** Puts in force what holds now; nothing happens where that has not changed. */
  #apply(): void {
    const { swarm, log } = this.#components
    const { limits } = this.#now()
    const applied = Object.values(limits).join()
    if (applied === this.#applied) return
    this.#applied = applied
    swarm.limit(limits)
    log.info('limits of traffic', { ...limits })
  }

  #look(): void {
    this.#apply()
    this.#timer = this.#components.clock.after(LOOK_MS, () => this.#look())
  }
}

function checkChange({ maxUpload, maxDownload, hours }: TrafficChange): void {
  try {
    for (const rate of [maxUpload, maxDownload]) if (rate !== undefined) parseRate(rate)
    if (hours !== undefined) parseHoursList(hours)
  } catch (cause) {
    throw new RowanError('LIMIT_INVALID', (cause as Error).message, { cause })
  }
}

/** The minute of the day where this computer stands. */
export function localMinute(clock: Pick<Clock, 'now'>): number {
  const date = new Date(clock.now())
  return date.getHours() * 60 + date.getMinutes()
}
