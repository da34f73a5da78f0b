/**
 * The file operations of a layer on a simulated disk: all are recorded, and what waits for the disk waits for the test.
 *
 * One layer at a time: files are told apart by their last name, and folders are there as soon as a file is
 * (simulated-files.ts has folders).
 */
import { basename } from 'node:path'
import type { LayerFile, LayerFiles } from '../../../../src/disk/layer-files.ts'
import { type DiskEvent, SimulatedDisk } from './simulated-disk.ts'

export type FaultyOperation = 'read' | 'write' | 'sync'

export class RecordingFiles implements LayerFiles {
  readonly disk: SimulatedDisk
  readonly events: DiskEvent[] = []
  /** Throws, to make an operation fail. */
  fault: (operation: FaultyOperation, file: string) => void = () => {}
  /** Off: what waits for the disk goes on at once. */
  gated = false
  readonly #gates: (() => void)[] = []
  /** Bytes that are free on the disk. */
  free = Number.POSITIVE_INFINITY
  #syncs = 0

  constructor(disk = new SimulatedDisk()) {
    this.disk = disk
  }

  get waiting(): number {
    return this.#gates.length
  }

  /** Lets one operation that waits for the disk go on, and what follows from it happen. */
  async step(which = 0): Promise<void> {
    this.#gates.splice(which % Math.max(1, this.#gates.length), 1)[0]?.()
    await new Promise(resolve => setImmediate(resolve))
  }

  /** Steps until `work` is done. */
  async finish<T>(work: Promise<T>): Promise<T> {
    const state = { settled: false }
    const watched = work.finally(() => {
      state.settled = true
    })
    watched.catch(() => {})
    while (!state.settled) await this.step()
    return watched
  }

  mark(mark: unknown): void {
    this.record({ kind: 'mark', mark })
  }

  record(event: DiskEvent): void {
    this.events.push(event)
    this.disk.apply(event)
  }

  async gate(): Promise<void> {
    if (this.gated) await new Promise<void>(resolve => this.#gates.push(resolve))
  }

  nextSync(): number {
    return this.#syncs++
  }

  exists(path: string): boolean {
    return this.disk.files.has(basename(path)) || (/^\d+$/.test(basename(path)) && this.disk.files.size > 0)
  }

  create(path: string, sizeBytes: number): LayerFile {
    this.disk.create(basename(path), sizeBytes)
    return this.open(path)
  }

  open(path: string): LayerFile {
    return new RecordingFile(this, path)
  }

  remove(path: string): void {
    this.disk.files.delete(basename(path))
  }

  rename(from: string, to: string): void {
    const file = this.disk.files.get(basename(from))
    if (file === undefined) return
    this.disk.files.delete(basename(from))
    this.disk.files.set(basename(to), file)
  }

  list(): string[] {
    const names = [...this.disk.files.keys()]
    return names.length === 0 ? [] : ['0001', ...names.filter(name => !['data', 'map', 'log'].includes(name))]
  }

  makeFolder(): void {}
  removeFolder(): void {}
  async deleteFolder(): Promise<void> {}
  syncFolder(): void {}

  allocatedBytes(): number {
    return 0
  }

  /** It may keep all of it: the system is only asked. */
  async forget(): Promise<void> {}

  freeBytes(): number {
    return this.free
  }
}

class RecordingFile implements LayerFile {
  readonly path: string
  readonly #files: RecordingFiles
  readonly #name: string
  #syncing = 0

  constructor(files: RecordingFiles, path: string) {
    this.#files = files
    this.path = path
    this.#name = basename(path)
  }

  get sizeBytes(): number {
    return this.#files.disk.files.get(this.#name)!.sizeBytes
  }

  get allocatedBytes(): number {
    return this.#files.disk.files.get(this.#name)!.sectors.size * 512
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    await this.#files.gate()
    this.readSync(target, 0, target.length, position)
  }

  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void {
    this.#files.fault('read', this.#name)
    this.#files.disk.read(this.#name, target.subarray(targetOffset, targetOffset + length), position)
  }

  writeSync(source: Uint8Array, sourceOffset: number, length: number, position: number): void {
    const bytes = Uint8Array.from(source.subarray(sourceOffset, sourceOffset + length))
    try {
      this.#files.fault('write', this.#name)
    } catch (error) {
      // Part of it had been written: the first half, of whole sectors but in the log.
      const half = length < 1024 && length !== 512 && this.#name === 'log' ? length >> 1 : (length >> 10) * 512
      this.#files.record({ kind: 'write', file: this.#name, position, bytes: bytes.subarray(0, half) })
      throw error
    }
    this.#files.record({ kind: 'write', file: this.#name, position, bytes })
  }

  async write(source: Uint8Array, position: number): Promise<void> {
    await this.#files.gate()
    this.writeSync(source, 0, source.length, position)
  }

  async sync(): Promise<void> {
    const id = this.#files.nextSync()
    this.#files.record({ kind: 'sync-begin', file: this.#name, id })
    this.#syncing += 1
    await this.#files.gate()
    this.#syncing -= 1
    this.#endSync(id)
  }

  syncSync(): void {
    const id = this.#files.nextSync()
    this.#files.record({ kind: 'sync-begin', file: this.#name, id })
    this.#endSync(id)
  }

  #endSync(id: number): void {
    const file = this.#name
    try {
      this.#files.fault('sync', file)
    } catch (error) {
      this.#files.record({ kind: 'sync-end', file, id, failed: true })
      throw error
    }
    this.#files.record({ kind: 'sync-end', file, id, failed: false })
  }

  /** Never while it is being synced: its descriptor may be another file's then. */
  close(): void {
    if (this.#syncing > 0) throw new Error(`${this.#name} is closed while it is being synced`)
  }
}
