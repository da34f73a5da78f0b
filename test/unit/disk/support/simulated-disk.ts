/**
 * A disk under a page cache, as far as promises about it go.
 *
 * Each 512-byte sector of each file has a row of versions: the first is the one that is surely on the disk, the last
 * the one that a read sees. What lies between was in the cache at some time, and the kernel may have written it or not.
 * So a power loss leaves one version of each sector, chosen independently: that is every reordering between two syncs,
 * and every tearing at 512 bytes. A sync that succeeds makes sure of what was written before it began; one that fails
 * leaves the cache as it is, and no later sync makes up for it (as Linux does after a writeback error).
 */
export type DiskEvent =
  | { kind: 'write'; file: string; position: number; bytes: Uint8Array }
  | { kind: 'sync-begin'; file: string; id: number }
  | { kind: 'sync-end'; file: string; id: number; failed: boolean }
  /** Something that a test wants to find again among the events. */
  | { kind: 'mark'; mark: unknown }

interface Version {
  bytes: Uint8Array
  at: number
  /** A sync failed since this was written: none will make sure of it. */
  dropped: boolean
}

interface SimulatedFile {
  sizeBytes: number
  sectors: Map<number, Version[]>
}

const SECTOR_BYTES = 512
const HOLE = new Uint8Array(SECTOR_BYTES)

export class SimulatedDisk {
  readonly files = new Map<string, SimulatedFile>()
  readonly #syncBegins = new Map<number, number>()
  #now = 0

  clone(): SimulatedDisk {
    const copy = new SimulatedDisk()
    for (const [name, file] of this.files) {
      const sectors = new Map<number, Version[]>()
      for (const [sector, versions] of file.sectors) sectors.set(sector, versions.slice())
      copy.files.set(name, { sizeBytes: file.sizeBytes, sectors })
    }
    for (const [id, at] of this.#syncBegins) copy.#syncBegins.set(id, at)
    copy.#now = this.#now
    return copy
  }

  /** What the disk holds after a power loss; `choose(n)` picks a version, 0 to n - 1. */
  afterPowerLoss(choose: (count: number) => number): SimulatedDisk {
    const copy = new SimulatedDisk()
    for (const [name, file] of this.files) {
      const sectors = new Map<number, Version[]>()
      for (const [sector, versions] of file.sectors) {
        const { bytes } = versions[choose(versions.length)]!
        sectors.set(sector, [{ bytes, at: 0, dropped: false }])
      }
      copy.files.set(name, { sizeBytes: file.sizeBytes, sectors })
    }
    return copy
  }

  create(name: string, sizeBytes: number): void {
    if (this.files.has(name)) throw new Error(`${name} exists`)
    this.files.set(name, { sizeBytes, sectors: new Map() })
  }

  apply(event: DiskEvent): void {
    this.#now++
    if (event.kind === 'write') this.#write(event.file, event.position, event.bytes)
    else if (event.kind === 'sync-begin') this.#syncBegins.set(event.id, this.#now)
    else if (event.kind === 'sync-end') this.#endSync(event.file, this.#syncBegins.get(event.id)!, event.failed)
  }

  read(name: string, target: Uint8Array, position: number): void {
    const file = this.files.get(name)!
    for (let at = 0; at < target.length; ) {
      const sector = Math.floor((position + at) / SECTOR_BYTES)
      const inSector = position + at - sector * SECTOR_BYTES
      const count = Math.min(SECTOR_BYTES - inSector, target.length - at)
      const bytes = file.sectors.get(sector)?.at(-1)?.bytes ?? HOLE
      target.set(bytes.subarray(inSector, inSector + count), at)
      at += count
    }
  }

  #write(name: string, position: number, source: Uint8Array): void {
    const file = this.files.get(name)!
    if (position + source.length > file.sizeBytes) throw new Error(`${name} would grow beyond ${file.sizeBytes}`)
    for (let at = 0; at < source.length; ) {
      const sector = Math.floor((position + at) / SECTOR_BYTES)
      const inSector = position + at - sector * SECTOR_BYTES
      const count = Math.min(SECTOR_BYTES - inSector, source.length - at)
      const versions = file.sectors.get(sector) ?? [{ bytes: HOLE, at: 0, dropped: false }]
      const bytes = versions.at(-1)!.bytes.slice()
      bytes.set(source.subarray(at, at + count), inSector)
      versions.push({ bytes, at: this.#now, dropped: false })
      file.sectors.set(sector, versions)
      at += count
    }
  }

  #endSync(name: string, begun: number, failed: boolean): void {
    for (const [sector, versions] of this.files.get(name)!.sectors) {
      const sure = versions.findLastIndex(version => version.at < begun)
      if (failed) {
        const marked = versions.map((version, index) =>
          index > 0 && index <= sure ? { ...version, dropped: true } : version
        )
        this.files.get(name)!.sectors.set(sector, marked)
      } else if (sure > 0 && !versions[sure]!.dropped) {
        versions.splice(0, sure)
      }
    }
  }
}
