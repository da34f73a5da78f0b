/**
 * Just enough of an assembler for a boot sector: bytes, labels, short jumps, near calls, addresses of labels.
 */
interface Fixup {
  position: number
  label: string
  kind: 'short' | 'near' | 'absolute'
}

export class Assembler {
  readonly #origin: number
  readonly #out: number[] = []
  readonly #labels = new Map<string, number>()
  readonly #fixups: Fixup[] = []

  /** @param origin - the address at which the first byte will be loaded */
  constructor(origin: number) {
    this.#origin = origin
  }

  bytes(...values: number[]): this {
    this.#out.push(...values)
    return this
  }

  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name} is there twice`)
    this.#labels.set(name, this.#out.length)
    return this
  }

  /** A jump or loop with an 8-bit distance. */
  jump(opcode: number, label: string): this {
    this.#out.push(opcode, 0)
    this.#fixups.push({ position: this.#out.length - 1, label, kind: 'short' })
    return this
  }

  /** An instruction that ends in a 16-bit distance: E8 calls, 0F 85 jumps if not equal. */
  near(opcode: number[], label: string): this {
    this.#out.push(...opcode, 0, 0)
    this.#fixups.push({ position: this.#out.length - 2, label, kind: 'near' })
    return this
  }

  call(label: string): this {
    return this.near([0xe8], label)
  }

  /** An instruction that ends in the 16-bit address of a label. */
  address(opcode: number, label: string): this {
    this.#out.push(opcode, 0, 0)
    this.#fixups.push({ position: this.#out.length - 2, label, kind: 'absolute' })
    return this
  }

  /** ASCII with a zero behind it. */
  text(value: string): this {
    return this.bytes(...Buffer.from(value, 'ascii'), 0)
  }

  finish(): Uint8Array {
    const bytes = Uint8Array.from(this.#out)
    const view = new DataView(bytes.buffer)
    for (const { position, label, kind } of this.#fixups) {
      const target = this.#labels.get(label)
      if (target === undefined) throw new Error(`no label ${label}`)
      if (kind === 'absolute') view.setUint16(position, this.#origin + target, true)
      else if (kind === 'near') view.setInt16(position, target - position - 2, true)
      else {
        const distance = target - position - 1
        if (distance < -128 || distance > 127)
          throw new Error(`${label} is ${distance} bytes away, too far for a short jump`)
        view.setInt8(position, distance)
      }
    }
    return bytes
  }
}
